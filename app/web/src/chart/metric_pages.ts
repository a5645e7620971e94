/** Rows of metrics and fundings of a span: one request where it suffices, else pages of what the node holds. */

import { ApiError, type Api } from "../api";

export type Row = Record<string, string | number>;

type Query = Record<string, string | number>;

export interface Wanted {
  path: string;
  symbol: string;
  /** Open times in [from, to), in ms. */
  from: number;
  to: number;
}

const ROWS_MAX = 500; // of one request, and enough for the width of a screen
const MONTH_MS = 30 * 86_400_000; // how far back the exchange has rows
const MARGIN_MS = 60_000; // while a request is on its way, the exchange's month moves on
const HELD = "5m"; // the period that the node holds, also of times that the exchange has forgotten
const HELD_MS = 300_000;
const PAGE_MS = ROWS_MAX * HELD_MS;
const PAGES_MAX = 24; // of a line: 41 days of metrics, and 1,000 of fundings; each takes the node some milliseconds
const KEPT_MAX = 192; // pages in memory, of eight lines: some 100 kB each
const FUNDINGS_MAX = 1_000; // of one request
const FUNDING_MS = 3_600_000; // the shortest time between two fundings that a contract has
const SETTLED_MS = 86_400_000; // nothing is added to a page that ended so long ago
const PERIODS: readonly [code: string, lengthMs: number][] = [
  [HELD, HELD_MS], ["15m", 900_000], ["30m", 1_800_000], ["1h", 3_600_000], ["2h", 7_200_000], ["4h", 14_400_000],
  ["6h", 21_600_000], ["12h", 43_200_000], ["1d", 86_400_000],
];

export class MetricPages {
  private readonly kept = new Map<string, Row[]>(); // the oldest use first

  constructor(private readonly api: Api) {}

  /** The rows, oldest first. Throws what `Api.get` throws; what the exchange has forgotten and the node lacks is left out. */
  async read({ path, symbol, from, to }: Wanted, signal: AbortSignal): Promise<Row[]> {
    const wanted = { path, symbol, from, to };
    if (path.endsWith("fundingRate")) {
      return this.pages(wanted, FUNDINGS_MAX * FUNDING_MS, { symbol, limit: FUNDINGS_MAX }, signal);
    }
    const held = { symbol, limit: ROWS_MAX, period: HELD };
    const [period, lengthMs] = PERIODS.find(([, each]) => (to - from) / each <= ROWS_MAX) ?? ["1d", 86_400_000];
    if (period === HELD) return this.pages(wanted, PAGE_MS, held, signal);
    const reach = Math.ceil((Date.now() - MONTH_MS + MARGIN_MS) / lengthMs) * lengthMs;
    const query = { ...held, period, startTime: Math.max(from, reach), endTime: to };
    const newer = query.startTime < to ? await this.ask(path, query, signal) : [];
    if (from >= reach) return newer;
    const older = await this.pages({ ...wanted, to: Math.min(to, reach) }, PAGE_MS, held, signal);
    return [...older, ...newer];
  }

  /** Pages that begin at multiples of `lengthMs`, so that they stay the same when the view moves; the newest first. */
  private async pages(
    { path, from, to }: Wanted, lengthMs: number, query: Query, signal: AbortSignal,
  ): Promise<Row[]> {
    const found: Row[][] = [];
    let start = Math.floor((to - 1) / lengthMs) * lengthMs;
    for (let page = 0; page < PAGES_MAX && start + lengthMs > from; page++, start -= lengthMs) {
      const rows = await this.page(path, { ...query, startTime: start, endTime: start + lengthMs - 1 }, signal);
      if (rows.length === 0 && page > 0) break; // the node holds nothing that is older
      found.unshift(rows);
    }
    return found.flat();
  }

  private async page(path: string, query: Query & { endTime: number }, signal: AbortSignal): Promise<Row[]> {
    const key = `${path} ${Object.values(query).join(" ")}`;
    const rows = this.kept.get(key) ?? (await this.ask(path, query, signal));
    this.kept.delete(key);
    if (query.endTime < Date.now() - SETTLED_MS) this.kept.set(key, rows);
    if (this.kept.size > KEPT_MAX) this.kept.delete(this.kept.keys().next().value ?? "");
    return rows;
  }

  private async ask(path: string, query: Query, signal: AbortSignal): Promise<Row[]> {
    try {
      return await this.api.get<Row[]>(path, query, signal);
    } catch (error) {
      if (error instanceof ApiError && error.status === 400) return []; // too old for the exchange, and not held
      throw error;
    }
  }
}
