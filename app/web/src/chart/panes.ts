/** Panes below the candles: open interest, ratios, taker volume and funding of what is in view. */

import { HistogramSeries, LineSeries, type IChartApi, type ISeriesApi } from "lightweight-charts";
import { ApiError, type Api, type Query } from "../api";
import { colour } from "../theme";
import type { Bars } from "./bars";
import type { Shown } from "./source";
import { timeOf } from "./view";

export const PANES = ["interest", "ratio", "taker", "funding"] as const;
export type PaneName = (typeof PANES)[number];

const ROWS_MAX = 500; // of one request, and enough for the width of a screen
const MONTH_MS = 30 * 86_400_000; // how far back the exchange has rows
const HEIGHT = 0.22; // of the candles' pane
const PERIODS: readonly [code: string, lengthMs: number][] = [
  ["5m", 300_000], ["15m", 900_000], ["30m", 1_800_000], ["1h", 3_600_000], ["2h", 7_200_000], ["4h", 14_400_000],
  ["6h", 21_600_000], ["12h", 43_200_000], ["1d", 86_400_000],
];

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

type Row = Record<string, string | number>;

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

  constructor(
    private readonly chart: IChartApi,
    private readonly api: Api,
    private readonly failed: (error: unknown) => void,
  ) {}

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

  /** Fetch and show the rows of what is in view (ms), one request for each path. */
  async load(shown: Shown, bars: Bars, from: number, to: number, signal: AbortSignal): Promise<void> {
    const [code, lengthMs] = PERIODS.find(([, each]) => (to - from) / each <= ROWS_MAX) ?? ["1d", 86_400_000];
    const start = Math.floor(Math.max(from, bars.first ?? from) / lengthMs) * lengthMs;
    const end = Math.ceil(to / lengthMs) * lengthMs;
    const asked = `${shown.symbol} ${code} ${start} ${end}`;
    if (asked !== this.asked) {
      this.asked = asked;
      const paths = [...new Set(this.drawn.map((each) => each.line.path))];
      const found = await Promise.all(paths.map((path) => this.read(path, shown, code, start, end, signal)));
      if (signal.aborted || asked !== this.asked) return;
      this.rows = new Map(paths.map((path, index) => [path, found[index] ?? []]));
    }
    this.show(bars);
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

  private async read(
    path: string, shown: Shown, period: string, start: number, end: number, signal: AbortSignal,
  ): Promise<Row[]> {
    const isFunding = path.endsWith("fundingRate");
    const reach = period === "5m" || isFunding ? 0 : Date.now() - MONTH_MS + 60_000;
    const query: Query = { symbol: shown.symbol, startTime: Math.max(start, reach), endTime: end, limit: ROWS_MAX };
    if (!isFunding) query["period"] = period;
    if (end <= Math.max(start, reach)) return [];
    try {
      return await this.api.get<Row[]>(path, query, signal);
    } catch (error) {
      const isTooOld = error instanceof ApiError && error.status === 400; // and not held
      if (!signal.aborted && !isTooOld) this.failed(error);
      return [];
    }
  }

  private show(bars: Bars): void {
    for (const { line, series, texts } of this.drawn) {
      texts.clear();
      for (const row of this.rows.get(line.path) ?? []) {
        const time = Number(row["timestamp"] ?? row["fundingTime"]);
        const slot = bars.slots[bars.indexOf(time + 1) - 1]; // the bar in which the value was so
        const text = String(row[line.field] ?? "");
        if (slot !== undefined && text !== "" && time < slot.time + bars.step) texts.set(slot.time, text);
      }
      const points = [...texts].sort(([a], [b]) => a - b);
      series.setData(points.map(([time, text]) => ({ time: timeOf(time), value: Number(text) })));
    }
  }
}
