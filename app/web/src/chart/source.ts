/** Where the chart's data comes from: paths and parameters of the node's API. */

import type { Api } from "../api";
import type { BarsAnswer, LiveBar } from "./bars";

export const KINDS = ["klines", "mark", "index", "premium"] as const;
export type Kind = (typeof KINDS)[number];

export const INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"] as const;
export type Interval = (typeof INTERVALS)[number];

const MINUTE_MS = 60_000;
const MINUTES: Record<Interval, number> = {
  "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720,
  "1d": 1440, "3d": 4320, "1w": 10_080, "1M": 43_200,
};
const LIVE_PATHS: Record<Kind, [path: string, symbol: string]> = {
  klines: ["fapi/v1/klines", "symbol"],
  mark: ["fapi/v1/markPriceKlines", "symbol"],
  index: ["fapi/v1/indexPriceKlines", "pair"],
  premium: ["fapi/v1/premiumIndexKlines", "symbol"],
};

/** What is shown. */
export interface Shown {
  symbol: string;
  kind: Kind;
  interval: Interval;
}

/** The length of an interval in ms; of months nominally. */
export function lengthOf(interval: Interval): number {
  return MINUTES[interval] * MINUTE_MS;
}

/** Whether the node adds klines of an interval up to fewer bars. */
export function isThinned(interval: Interval): boolean {
  return MINUTES[interval] <= 1440;
}

/** Which bars: those of klines that open in `[start, end)`, each `step` ms long; null: the newest, up to now. */
export interface Page {
  bars: number;
  step: number;
  start: number | null;
  end: number | null;
}

export function pageOf(api: Api, shown: Shown, page: Page, signal: AbortSignal): Promise<BarsAnswer> {
  const { symbol, kind, interval } = shown;
  const { bars, step, start, end } = page;
  const query = { symbol, kind, interval, bars, startTime: start, endTime: end === null ? null : end - 1 };
  return api.get("v1/bars", isThinned(interval) ? { ...query, step } : query, signal);
}

/** The newest two rows, the last one in progress. */
export async function newestRows(api: Api, shown: Shown, signal: AbortSignal): Promise<LiveBar[]> {
  const [path, name] = LIVE_PATHS[shown.kind];
  const symbol = shown.kind === "index" ? (shown.symbol.split("_")[0] ?? shown.symbol) : shown.symbol;
  const query = { [name]: symbol, interval: shown.interval, limit: 2, only_final: shown.kind === "klines" ? "false" : null };
  const rows = await api.get<(string | number)[][]>(path, query, signal);
  return rows.map((row, index) => {
    const [time, open, high, low, close, volume] = row as [number, string, string, string, string, string];
    return { time, eventMs: 0, isFinal: index < rows.length - 1, texts: { open, high, low, close, volume } };
  });
}

/** All symbols that the exchange lists. */
export async function symbolsOf(api: Api, signal: AbortSignal): Promise<string[]> {
  const info = await api.get<{ symbols: { symbol: string }[] }>("fapi/v1/exchangeInfo", {}, signal);
  return info.symbols.map((each) => each.symbol).sort();
}
