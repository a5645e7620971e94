/** How many klines of a span are missing, absent, disputed or revised. */

import type { Marks, Span } from "./bars";

export type Counts = Record<keyof Marks, number>;

/** The counts of the open times `from` ≤ t < `to` (ms), where a kline is `lengthMs` long. */
export function countsOf(marks: Marks, from: number, to: number, lengthMs: number): Counts {
  const counted = (spans: readonly Span[]): number =>
    Math.ceil(spans.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0) / lengthMs);
  return {
    missing: counted(marks.missing),
    absent: counted(marks.absent),
    disputed: counted(marks.disputed),
    revised: marks.revised.filter((at) => at >= from && at < to).length,
  };
}
