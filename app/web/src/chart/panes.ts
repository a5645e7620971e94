/** Panes below the candles: open interest, ratios, taker volume and funding of what is in view. */

import { HistogramSeries, LineSeries, type IChartApi, type ISeriesApi } from "lightweight-charts";
import type { Api } from "../api";
import { colour } from "../theme";
import type { Bars } from "./bars";
import { MetricPages, type Row, type Wanted } from "./metric_pages";
import type { Shown } from "./source";
import { timeOf } from "./view";

export const PANES = ["interest", "ratio", "taker", "funding"] as const;
export type PaneName = (typeof PANES)[number];

const HEIGHT = 0.22; // of the candles' pane

interface Line {
  path: string;
  field: string;
  colour: string;
  /** The key of its word in the legend. */
  word: "interest" | "top" | "all" | "buy" | "sell" | "funding";
}

const LINES: Record<PaneName, Line[]> = {
  interest: [{ path: "futures/data/openInterestHist", field: "sumOpenInterest", colour: "--accent", word: "interest" }],
  ratio: [
    { path: "futures/data/globalLongShortAccountRatio", field: "longShortRatio", colour: "--accent", word: "all" },
    { path: "futures/data/topLongShortPositionRatio", field: "longShortRatio", colour: "--partial", word: "top" },
  ],
  taker: [
    { path: "futures/data/takerlongshortRatio", field: "buyVol", colour: "--up", word: "buy" },
    { path: "futures/data/takerlongshortRatio", field: "sellVol", colour: "--down", word: "sell" },
  ],
  funding: [{ path: "fapi/v1/fundingRate", field: "fundingRate", colour: "--disputed", word: "funding" }],
};

interface Drawn {
  pane: PaneName;
  line: Line;
  series: ISeriesApi<"Line"> | ISeriesApi<"Histogram">;
  /** By the time of a slot (ms): the exact text. */
  texts: Map<number, string>;
}

export class Panes {
  private drawn: Drawn[] = [];
  private rows = new Map<string, Row[]>();
  private asked = "";
  private round = 0; // of what was asked: the answers to one before it are late
  private readonly pages: MetricPages;

  constructor(
    private readonly chart: IChartApi,
    api: Api,
    private readonly failed: (error: unknown) => void,
  ) {
    this.pages = new MetricPages(api);
  }

  get names(): PaneName[] {
    return PANES.filter((name) => this.drawn.some((each) => each.pane === name));
  }

  /** Show exactly these panes; `load` fills them. */
  choose(names: readonly PaneName[]): void {
    for (const { series } of this.drawn) this.chart.removeSeries(series);
    this.drawn = [];
    this.asked = "";
    for (const pane of PANES.filter((name) => names.includes(name))) {
      const index = this.chart.panes().length;
      for (const line of LINES[pane]) this.drawn.push({ pane, line, series: this.seriesOf(line, index), texts: new Map() });
      this.chart.panes()[index]?.setStretchFactor(HEIGHT);
    }
    this.chart.panes()[0]?.setStretchFactor(1);
  }

  /** Use the colours of the theme in force. */
  paint(): void {
    for (const { series, line } of this.drawn) series.applyOptions({ color: colour(line.colour) });
  }

  /** Fetch the rows of what is in view (ms); `show` draws them. */
  async load({ symbol }: Shown, bars: Bars, from: number, to: number, signal: AbortSignal): Promise<void> {
    const start = Math.max(from, bars.first ?? from);
    const asked = `${symbol} ${start} ${to}`;
    if (asked === this.asked) return;
    this.asked = asked;
    const round = ++this.round;
    const paths = [...new Set(this.drawn.map((each) => each.line.path))];
    const found = await Promise.all(paths.map((path) => this.read({ path, symbol, from: start, to }, signal)));
    if (!signal.aborted && round === this.round) this.rows = new Map(paths.map((path, index) => [path, found[index] ?? []]));
  }

  /** Forget the rows: those of another symbol follow. */
  forget(): void {
    this.round++;
    this.asked = "";
    this.rows = new Map();
  }

  /** Show the rows that were loaded at the slots of these bars. */
  show(bars: Bars): void {
    for (const { line, series, texts } of this.drawn) {
      const rows = this.rows.get(line.path) ?? [];
      if (rows.length === 0 && texts.size === 0) continue; // setting nothing takes the library as long as setting much
      texts.clear();
      for (const row of rows) {
        const time = Number(row["timestamp"] ?? row["fundingTime"]);
        const slot = bars.slots[bars.indexOf(time + 1) - 1]; // the bar in which the value was so
        const text = String(row[line.field] ?? "");
        if (slot !== undefined && text !== "" && time < slot.time + bars.step) texts.set(slot.time, text);
      }
      const points = [...texts].sort(([a], [b]) => a - b);
      series.setData(points.map(([time, text]) => ({ time: timeOf(time), value: Number(text) })));
    }
  }

  /** The exact values at a slot, by word. */
  at(time: number): [word: Line["word"], text: string][] {
    return this.drawn.flatMap(({ line, texts }) => {
      const text = texts.get(time);
      return text === undefined ? [] : [[line.word, text] as [Line["word"], string]];
    });
  }

  /** How many points each pane shows. */
  counts(): Partial<Record<PaneName, number>> {
    return Object.fromEntries(this.drawn.map(({ pane, texts }) => [pane, texts.size]));
  }

  private seriesOf(line: Line, index: number): Drawn["series"] {
    const options = { color: colour(line.colour), priceLineVisible: false, lastValueVisible: true };
    if (line.word === "funding") {
      const priceFormat = { type: "price" as const, precision: 6, minMove: 0.000001 };
      return this.chart.addSeries(HistogramSeries, { ...options, priceFormat }, index);
    }
    const priceFormat = line.word === "all" || line.word === "top"
      ? { type: "price" as const, precision: 4, minMove: 0.0001 }
      : { type: "volume" as const };
    return this.chart.addSeries(LineSeries, { ...options, lineWidth: 2, priceFormat }, index);
  }

  private async read(wanted: Wanted, signal: AbortSignal): Promise<Row[]> {
    try {
      return await this.pages.read(wanted, signal);
    } catch (error) {
      if (!signal.aborted) this.failed(error);
      this.asked = ""; // when the view moves next, ask again
      return [];
    }
  }
}
