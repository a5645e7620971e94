/** Marks below the bars: a line where klines are missing, absent or disputed, a dot where one was revised. */

import type { ISeriesPrimitive, Logical, SeriesAttachedParameter, Time } from "lightweight-charts";
import type { CanvasRenderingTarget2D } from "fancy-canvas";
import { colour } from "../theme";
import type { Bars, Span } from "./bars";

const LINE_PX = 4;
const DOT_PX = 3;

interface Shape {
  from: number;
  to: number;
  colour: string;
  isDot: boolean;
}

export class MarksPrimitive implements ISeriesPrimitive<Time> {
  private attachedTo: SeriesAttachedParameter<Time> | null = null;
  private shapes: Shape[] = [];

  attached(parameter: SeriesAttachedParameter<Time>): void {
    this.attachedTo = parameter;
  }

  detached(): void {
    this.attachedTo = null;
  }

  /** Show the marks of `bars`. */
  set(bars: Bars): void {
    const { absent, missing, disputed, revised } = bars.marks;
    const lines = (spans: Span[], name: string): Shape[] =>
      spans.map(([start, end]) => ({
        from: bars.indexOf(start),
        to: Math.max(bars.indexOf(end), bars.indexOf(start) + 1),
        colour: colour(name),
        isDot: false,
      }));
    this.shapes = [
      ...lines(absent, "--absent"),
      ...lines(disputed, "--disputed"),
      ...lines(missing, "--missing"),
      ...revised.map((at) => {
        const index = Math.max(0, bars.indexOf(at + 1) - 1); // the bar that a thinned kline is in
        return { from: index, to: index + 1, colour: colour("--accent"), isDot: true };
      }),
    ];
    this.attachedTo?.requestUpdate();
  }

  paneViews() {
    return [{ zOrder: () => "top" as const, renderer: () => ({ draw: (target: CanvasRenderingTarget2D) => this.draw(target) }) }];
  }

  private draw(target: CanvasRenderingTarget2D): void {
    const scale = this.attachedTo?.chart.timeScale();
    if (scale === undefined) return;
    const width = scale.options().barSpacing;
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio, verticalPixelRatio }) => {
      for (const shape of this.shapes) {
        const left = scale.logicalToCoordinate(shape.from as Logical);
        const right = scale.logicalToCoordinate((shape.to - 1) as Logical);
        if (left === null || right === null) continue;
        const begin = (left - width / 2) * horizontalPixelRatio;
        const end = (right + width / 2) * horizontalPixelRatio;
        if (end < 0 || begin > bitmapSize.width) continue;
        context.fillStyle = shape.colour;
        const bottom = bitmapSize.height;
        if (shape.isDot) {
          const radius = DOT_PX * horizontalPixelRatio;
          context.beginPath();
          context.arc((begin + end) / 2, bottom - LINE_PX * 3 * verticalPixelRatio, radius, 0, 2 * Math.PI);
          context.fill();
        } else {
          const height = LINE_PX * verticalPixelRatio;
          context.fillRect(begin, bottom - height, Math.max(end - begin, horizontalPixelRatio), height);
        }
      }
    });
  }
}
