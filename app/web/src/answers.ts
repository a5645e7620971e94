/** The answers of the node that several pages read, as far as they read them. Times are ms since 1970. */

export interface Overview {
  as_of: number;
  version: string;
  health: Health;
  ready: { ready: boolean; reasons: string[]; series: Record<string, number> };
  exchange: Exchange;
  /** By name: sums since the start (counts) or of now; one that has no number yet is missing. */
  numbers: Partial<Record<string, number>>;
  close_lag: Record<string, { klines: number; p50_s: number | null; p99_s: number | null }>;
  workers: number;
  paused: string | null;
  fetch_error: string | null;
  jobs: Job[];
  slow: SlowAnswer[];
}

export interface Health {
  status: "ok" | "degraded";
  reasons: string[];
  notes: string[];
  uptime_s: number;
  role: "writer" | "reader";
  symbols: number;
  clock_offset_ms: number;
  sockets: { sockets?: Record<string, { streams: number; newest_frame_age_ms: number | null; complaint: string | null }> };
  gathered: Record<string, { series: number; held: number; p50_ms: number | null; p99_ms: number | null }>;
  collector: object | null;
  tasks: Record<string, { running: boolean; restarts: number; last_error: string | null }>;
}

export interface Exchange {
  stand_down: { until: number; reason: string } | null;
  is_silent: boolean;
  complaints: string[];
  weight_used: number;
  weight_limit: number;
  weight_ceilings: Record<string, number>;
  waiting: Record<string, number>;
}

export interface Job {
  job: "backfill" | "verify" | "export";
  named: string[];
  series: number;
  start: number;
  end: number;
  state: "waiting" | "running" | "done" | "failed";
  total: number;
  done: number;
  error: string | null;
}

export interface SlowAnswer {
  path: string;
  query: string;
  elapsed_ms: number;
  at_ms: number;
  status: number;
}

/** A page of /v1/coverage/days; `days` of a series has a letter for each day. */
export interface CoverageDays {
  as_of: number;
  kind: string;
  interval: string;
  start: number;
  days: number;
  kinds: { kind: string; intervals: string[] }[];
  total: number;
  offset: number;
  series: { symbol: string; missing: number; revisions: number; days: string }[];
}

export interface SpanAnswer {
  start: number;
  end: number;
}

/** One series of /v1/coverage. */
export interface SeriesCoverage {
  symbol: string;
  interval: string;
  wished: SpanAnswer[];
  held: (SpanAnswer & { source: string })[];
  absent: SpanAnswer[];
  missing: SpanAnswer[];
  verified: (SpanAnswer & { at: number })[];
  disagreements: { open: number; other: string; ours: unknown; theirs: unknown; seen: number }[];
  revisions: number;
  klines_missing: number;
  completeness: string;
}

/** /api/v1/status. */
export interface CollectorStatus {
  uptime_seconds: number;
  collector_metrics: { messages_processed: number; messages_published: number; errors_count: number };
  exchanges: Record<string, CollectedExchange>;
  outbox: { waiting: number; spilled_bytes: number; spill_used: number; fault: string | null };
  faults: string[];
}

export interface CollectedExchange {
  state: string;
  sockets_active: number;
  messages_count: number;
  errors_count: number;
  gaps_open: number;
  books_followed: number;
  books_valid: number;
  levels_compared: number;
  levels_equal: number;
  lag_p50_ms: number | null;
  lag_p99_ms: number | null;
  types: Record<string, { feeds: number; processed: number; published: number; errors: number; gaps_open: number }>;
  faults: string[];
}
