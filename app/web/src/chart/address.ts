/** What the chart's part of the address says: the series that is shown, and the panes below it. */

import { PANES, type PaneName } from "./panes";
import { INTERVALS, KINDS, type Interval, type Shown } from "./source";

const DEFAULT_SYMBOL = "BTCUSDT";
const WIDE_PX = 700; // narrower screens show the candles alone until panes are chosen

/** The series that the address names; what it does not name, or not rightly, is the usual one. */
export function shownOf(parameters: URLSearchParams): Shown {
  const [kind, interval] = [parameters.get("kind"), parameters.get("interval")];
  return {
    symbol: (parameters.get("symbol") ?? DEFAULT_SYMBOL).toUpperCase(),
    kind: KINDS.find((each) => each === kind) ?? "klines",
    interval: INTERVALS.find((each): each is Interval => each === interval) ?? "1m",
  };
}

/** The panes that the address names, or those that a screen of this width has room for. */
export function panesOf(parameters: URLSearchParams): PaneName[] {
  const asked = parameters.get("panes");
  if (asked !== null) return PANES.filter((each) => asked.split(",").includes(each));
  return window.innerWidth >= WIDE_PX ? ["interest", "funding"] : [];
}

/** The parameters of the address that name a series. */
export function addressOf({ symbol, kind, interval }: Shown): Record<string, string | null> {
  return { symbol, kind: kind === "klines" ? null : kind, interval };
}
