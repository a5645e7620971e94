/** Draws bars: candles and volume with TradingView's library. Numbers become floats here, and only to be drawn. */

import {
  CandlestickSeries,
  CrosshairMode,
  HistogramSeries,
  createChart,
  type IChartApi,
  type ISeriesApi,
  type UTCTimestamp,
} from "lightweight-charts";
import { colour } from "../theme";
import type { Bars, Slot } from "./bars";
import type { Range } from "./feed";
import { MarksPrimitive } from "./marks";

const PAN = 0.15; // of the view, for each key
const ZOOM = 1.25;
const UNSEEN = "#00000000";
const SPACING_PX_MIN = 0.1; // the feed makes bars of more klines long before they are this thin

export class View {
  readonly chart: IChartApi;
  private readonly candles: ISeriesApi<"Candlestick">;
  private readonly volume: ISeriesApi<"Histogram">;
  private readonly marks = new MarksPrimitive();
  private bars: Bars | null = null;
  private length = 0;
  private anchor: { index: number; time: number } | null = null;
  private wanted: Range | null = null; // what the view was moved to, until the library has drawn it in the next frame

  /** `filled` is called in the midst of every change of bars: series that have points where no slot is move all others. */
  constructor(
    place: HTMLElement,
    private readonly filled: (bars: Bars) => void,
  ) {
    this.chart = createChart(place, {
      autoSize: true,
      layout: { attributionLogo: false, panes: { enableResize: true } },
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: { timeVisible: true, secondsVisible: false, minBarSpacing: SPACING_PX_MIN, rightOffset: 4 },
      localization: { locale: "en-GB" },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0.02 } });
    this.candles.attachPrimitive(this.marks);
    this.paint();
  }

  /** Use the colours of the theme in force. */
  paint(): void {
    const [up, down, line] = [colour("--up"), colour("--down"), colour("--line")];
    this.chart.applyOptions({
      layout: {
        background: { color: colour("--ground") },
        textColor: colour("--quiet"),
        panes: { separatorColor: line, separatorHoverColor: colour("--raised") },
      },
      grid: { vertLines: { color: colour("--raised") }, horzLines: { color: colour("--raised") } },
      rightPriceScale: { borderColor: line },
      timeScale: { borderColor: line },
    });
    this.candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    if (this.bars !== null) this.fill(this.bars);
  }

  /** Show other bars: those of `view` (ms), or the newest. */
  open(bars: Bars, view: readonly [number, number] | null): void {
    this.bars = bars;
    const last = [...bars.slots].reverse().find((slot) => slot.texts !== null);
    const precision = (last?.texts?.close.split(".")[1] ?? "").length;
    this.candles.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
    this.fill(bars);
    this.candles.priceScale().setAutoScale(true);
    if (view === null) this.toNewest(bars);
    else {
      const indexAt = (time: number): number => (time - bars.begin) / bars.step;
      this.move({ from: indexAt(view[0]), to: indexAt(view[1]) });
    }
    this.note();
  }

  /** Call `moved` whenever other slots come into view. */
  onMove(moved: () => void): void {
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => {
      this.note();
      moved();
    });
  }

  /** Show the bars after some were added or replaced; what is in view stays there. */
  change(bars: Bars): void {
    const range = this.range();
    const before = this.length;
    const anchor = this.anchor;
    const isAtEnd = range !== null && range.to >= before - 1;
    this.fill(bars);
    if (range === null) return;
    const shift = isAtEnd ? this.length - before : anchor === null ? 0 : bars.indexOf(anchor.time) - anchor.index;
    this.keep({ from: range.from + shift, to: range.to + shift });
    this.note();
  }

  /** Show the last bar; the view goes along with it where it shows the newest. */
  update(bars: Bars): void {
    const last = bars.slots[bars.slots.length - 1];
    if (last === undefined) return;
    const range = this.range();
    const before = this.length;
    this.candles.update(candleOf(last));
    this.volume.update(this.volumeOf(last));
    this.length = bars.slots.length;
    if (range === null) return;
    const shift = range.to >= before - 1 ? this.length - before : 0;
    this.keep({ from: range.from + shift, to: range.to + shift });
  }

  /** Whether these are the bars that are drawn. */
  shows(bars: Bars): boolean {
    return this.bars === bars;
  }

  range(): Range | null {
    return this.wanted ?? this.chart.timeScale().getVisibleLogicalRange();
  }

  /** The slots in view. */
  inView(): Slot[] {
    const range = this.range();
    if (range === null || this.bars === null) return [];
    return this.bars.slots.slice(Math.max(0, Math.ceil(range.from)), Math.max(0, Math.floor(range.to) + 1));
  }

  /** Remember which slot is in view, before bars change. */
  private note(): void {
    const range = this.range();
    const index = range === null ? 0 : Math.max(0, Math.ceil(range.from));
    const slot = this.bars?.slots[index];
    this.anchor = slot === undefined ? null : { index, time: slot.time };
  }

  /** Move the view by a share of it: to the past if negative. */
  pan(direction: -1 | 1): void {
    const range = this.range();
    if (range === null) return;
    const by = (range.to - range.from) * PAN * direction;
    this.move({ from: range.from + by, to: range.to + by });
  }

  /** Zoom around the right edge. */
  zoom(isIn: boolean): void {
    const range = this.range();
    if (range === null) return;
    const width = (range.to - range.from) * (isIn ? 1 / ZOOM : ZOOM);
    this.move({ from: range.to - width, to: range.to });
  }

  remove(): void {
    this.chart.remove();
  }

  /** The library moves in its next frame: until then keys and bars that come go by where it is to be. */
  private move(range: Range): void {
    this.wanted = range;
    this.chart.timeScale().setVisibleLogicalRange(range);
    requestAnimationFrame(() => {
      if (this.wanted === range) this.wanted = null;
    });
  }

  private toNewest(bars: Bars): void {
    const scale = this.chart.timeScale();
    const { barSpacing, rightOffset } = scale.options();
    const to = bars.slots.length - 1 + rightOffset;
    if (scale.width() > 0) this.move({ from: to + 1 - scale.width() / barSpacing, to });
    else scale.scrollToPosition(rightOffset, false); // the library has not been given its size yet
  }

  /** Stay at `range`: the library counts from the last slot with a bar, which may be another one now. */
  private keep(range: Range): void {
    const now = this.range();
    const isThere = now !== null && Math.abs(now.from - range.from) + Math.abs(now.to - range.to) < 0.01;
    if (!isThere) this.move(range);
  }

  private fill(bars: Bars): void {
    this.candles.setData(bars.slots.map(candleOf));
    this.volume.setData(bars.slots.map((slot) => this.volumeOf(slot)));
    this.filled(bars);
    this.marks.set(bars);
    this.length = bars.slots.length;
  }

  private volumeOf({ time, texts }: Slot) {
    // not left out: the library counts its view from the last slot that has a value in any series
    if (texts === null) return { time: timeOf(time), value: 0, color: UNSEEN };
    const isUp = Number(texts.close) >= Number(texts.open);
    return { time: timeOf(time), value: Number(texts.volume), color: `${colourOf(isUp)}66` };
  }
}

export function timeOf(timeMs: number): UTCTimestamp {
  return (timeMs / 1000) as UTCTimestamp;
}

const colours = { up: "", down: "", theme: "" };

/** The colour of a rise or a fall; read once for each theme, since 20,000 bars ask for it. */
function colourOf(isUp: boolean): string {
  const theme = document.documentElement.dataset["theme"] ?? "";
  if (colours.theme !== theme || colours.up === "") {
    Object.assign(colours, { up: colour("--up"), down: colour("--down"), theme });
  }
  return isUp ? colours.up : colours.down;
}

function candleOf({ time, texts }: Slot) {
  if (texts === null) return { time: timeOf(time) };
  return {
    time: timeOf(time),
    open: Number(texts.open),
    high: Number(texts.high),
    low: Number(texts.low),
    close: Number(texts.close),
  };
}
