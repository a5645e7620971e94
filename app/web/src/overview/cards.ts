/** The cards of the overview: each is built once, and shows every new answer in place. */

import type { Overview } from "../answers";
import { html, setText } from "../dom";
import { count, duration, moment, percent, type Language } from "../language";
import { card, Facts, Sparkline, Table, type Tone } from "../parts";
import { Samples } from "../rates";
import type { OverviewWords } from "./words";

export interface Shown {
  element: HTMLElement;
  update(overview: Overview): void;
}

const RATE_MS = 15_000; // frames come in bursts at each close; five answers level them out
const CLOCK_MS_MAX = 1_000; // as /v1/health: more than that is a reason
const MB = 1_000_000;

export function exchangeCard(words: OverviewWords, language: Language): Shown {
  const facts = new Facts();
  const weight = html("span");
  const meter = html("meter", { min: 0, "aria-label": words.weight });
  return {
    element: card(words.exchange, facts.element, html("p", { class: "metered" }, words.weight, " ", weight), meter),
    update({ exchange, health }) {
      const sockets = Object.values(health.sockets.sockets ?? {});
      const complaint = exchange.complaints[0] ?? sockets.find((each) => each.complaint)?.complaint;
      const reach = exchange.is_silent ? words.silent : sockets.length ? words.yes : words.noSockets;
      const tone: Tone = exchange.is_silent ? "bad" : complaint || !sockets.length ? "warn" : "good";
      facts.set(words.reachable, complaint ? `${reach}; ${complaint}` : reach, tone);
      const until = exchange.stand_down;
      facts.set(words.standDown, until ? words.until(moment(until.until), until.reason) : words.none, until ? "bad" : "plain");
      const waiting = Object.values(exchange.waiting).reduce((sum, each) => sum + each, 0);
      facts.set(words.waiting, count(language, waiting), waiting ? "warn" : "plain");
      const off = Math.abs(health.clock_offset_ms);
      facts.set(words.clock, words.clockOff(duration(language, off)), off > CLOCK_MS_MAX ? "bad" : "plain");
      setText(weight, words.weightOf(count(language, exchange.weight_used), count(language, exchange.weight_limit)));
      const limit = exchange.weight_limit;
      Object.assign(meter, { max: limit, high: exchange.weight_ceilings["tail"] ?? limit, optimum: 0 });
      meter.value = exchange.weight_used;
    },
  };
}

export function liveCard(words: OverviewWords, language: Language): Shown {
  const facts = new Facts();
  const spark = new Sparkline();
  const frames = new Samples();
  return {
    element: card(words.live, facts.element, spark.element),
    update({ as_of, numbers, health }) {
      frames.add(as_of, numbers["frames"] ?? 0);
      const rate = frames.perSecond(RATE_MS);
      facts.set(words.frames, rate === null ? "…" : count(language, rate, rate < 10 ? 1 : 0));
      const sockets = Object.entries(health.sockets.sockets ?? {});
      const ages = sockets.map(([, each]) => each.newest_frame_age_ms).filter((age) => age !== null);
      facts.set(words.newestFrame, ages.length ? words.ago(duration(language, Math.min(...ages))) : words.none);
      for (const [name, each] of sockets) facts.set(name, words.streams(count(language, each.streams)), each.complaint ? "warn" : "plain");
      spark.draw(frames.steps().slice(-60));
    },
  };
}

export function dataCard(words: OverviewWords, language: Language): Shown {
  const facts = new Facts();
  return {
    element: card(words.data, facts.element),
    update({ numbers, health, ready, paused, fetch_error }) {
      const series = Object.values(ready.series).reduce((sum, each) => sum + each, 0);
      const fresh = ready.series["fresh"] ?? 0;
      facts.set(words.symbols, count(language, health.symbols));
      facts.set(words.fresh, words.of(count(language, fresh), count(language, series)), fresh < series ? "warn" : "good");
      const wished = numbers["klines_wished"];
      const missing = numbers["klines_missing"];
      facts.set(words.wished, wished === undefined ? words.unknown : count(language, wished));
      facts.set(words.missing, missing === undefined ? words.unknown : count(language, missing), missing ? "warn" : "good");
      if (wished && missing !== undefined) facts.set(words.complete, percent(language, 1 - missing / wished));
      facts.set(words.gaps, count(language, numbers["gaps"] ?? 0));
      facts.set(words.revised, count(language, numbers["rows_revised"] ?? 0));
      facts.set(words.disputes, count(language, (numbers["disputed"] ?? 0) + (numbers["disagreements"] ?? 0)));
      for (const [name, found] of Object.entries(health.gathered)) {
        const age = found.p50_ms === null ? words.unknown : duration(language, found.p50_ms);
        facts.set(words.gathered(name), age, found.held < found.series ? "warn" : "plain");
      }
      if (paused !== null) facts.set(words.paused, paused, "bad");
      if (fetch_error !== null) facts.set(words.lastFault, fetch_error, "warn");
    },
  };
}

export function lagCard(words: OverviewWords, language: Language): Shown {
  const table = new Table(words.lag, [words.interval, words.klines, words.half, words.most], words.noLag);
  table.element.classList.add("short");
  const within = (bound: number | null): string => (bound === null ? words.longer : `${bound} s`);
  return {
    element: card(words.lag, table.element),
    update({ close_lag }) {
      const found = Object.entries(close_lag).filter(([, lag]) => lag.klines > 0);
      table.rows(found.map(([code, lag]) => [code, count(language, lag.klines), within(lag.p50_s), within(lag.p99_s)]));
    },
  };
}

export function answersCard(words: OverviewWords, language: Language): Shown {
  const facts = new Facts();
  return {
    element: card(words.answers, facts.element),
    update({ numbers }) {
      const share = (hits = 0, misses = 0): string => (hits + misses ? percent(language, hits / (hits + misses)) : "–");
      facts.set(words.requests, count(language, (numbers["requests"] ?? 0) + (numbers["page_hits"] ?? 0)));
      facts.set(words.pageHits, share(numbers["page_hits"], numbers["page_misses"]));
      facts.set(words.marketHits, share(numbers["market_hits"], numbers["market_misses"]));
      facts.set(words.connections, count(language, numbers["connections"] ?? 0));
      facts.set(words.clients, count(language, numbers["stream_clients"] ?? 0));
    },
  };
}

export function slowCard(words: OverviewWords, language: Language): Shown {
  const table = new Table(words.slow, [words.request, words.took, words.status, words.when], words.slowNone);
  const element = card(words.slow, table.element);
  element.classList.add("wide");
  return {
    element,
    update({ slow }) {
      const rows = slow.map((each) => [
        `${each.path}${each.query ? `?${each.query}` : ""}`,
        duration(language, each.elapsed_ms),
        each.status,
        moment(each.at_ms),
      ]);
      table.rows(rows);
    },
  };
}

export function processCard(words: OverviewWords, language: Language): Shown {
  const facts = new Facts();
  const megabytes = (bytes: number | undefined): string =>
    bytes === undefined ? words.unknown : bytes < 10_000 * MB ? `${count(language, bytes / MB)} MB` : `${count(language, bytes / MB / 1000, 1)} GB`;
  return {
    element: card(words.process, facts.element),
    update({ health, numbers, version, workers }) {
      const isWriter = health.role === "writer";
      facts.set(words.role, isWriter ? words.writer : words.reader, isWriter ? "plain" : "warn");
      facts.set(words.workers, count(language, workers));
      facts.set(words.version, version);
      facts.set(words.uptime, duration(language, health.uptime_s * 1000));
      facts.set(words.queue, count(language, numbers["write_queue"] ?? 0));
      facts.set(words.rows, count(language, numbers["rows_written"] ?? 0));
      facts.set(words.memory, megabytes(numbers["memory_bytes"]));
      facts.set(words.database, megabytes(numbers["database_bytes"]));
      facts.set(words.free, megabytes(numbers["disk_free_bytes"]));
      const down = Object.entries(health.tasks).filter(([, task]) => !task.running);
      const running = Object.keys(health.tasks).length - down.length;
      const names = down.map(([name]) => name).join(", ");
      facts.set(words.tasks, down.length ? words.tasksDown(names) : words.tasksRun(count(language, running)), down.length ? "bad" : "plain");
    },
  };
}
