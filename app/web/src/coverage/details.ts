/** The dialog of one day of a series: its spans, their sources, and what the exchange contradicts. */

import { ApiError } from "../api";
import type { SeriesCoverage, SpanAnswer } from "../answers";
import { openDialog } from "../dialog";
import { html, show, type Child } from "../dom";
import { count, day, moment } from "../language";
import type { Context } from "../page";
import { Table } from "../parts";
import { link } from "../router";
import { DAY_MS } from "./letters";
import type { CoverageWords } from "./words";

/** By kind of klines, as /v1/coverage/days names it: how /v1/bars and the chart name it. */
const CHARTED: Partial<Record<string, string>> = { trades: "klines", mark: "mark", index: "index", premium: "premium" };
const REVISIONS_MAX = 100; // listed of a day; the text below says how many there are of the series

export interface Asked {
  /** The name of the series, such as BTCUSDT@markPrice. */
  name: string;
  kind: string;
  interval: string;
  dayMs: number;
}

/** Open the dialog, and fill it when the node has answered. */
export function openDetails(context: Context, words: CoverageWords, asked: Asked): void {
  const title = words.details(asked.name, asked.interval, day(asked.dayMs));
  const body = html("div", { class: "details" }, "…");
  const dialog = html(
    "dialog",
    { "aria-label": title, class: "broad" },
    html("h2", {}, title),
    body,
    html("form", { method: "dialog", class: "actions" }, html("button", { class: "primary" }, words.close)),
  );
  context.signal.addEventListener("abort", () => dialog.close());
  openDialog(dialog);
  void fill(body, context, words, asked);
}

async function fill(body: HTMLElement, context: Context, words: CoverageWords, asked: Asked): Promise<void> {
  try {
    const query = { symbol: asked.name, interval: asked.interval, limit: 1 };
    const { series } = await context.api.get<{ series: SeriesCoverage[] }>("v1/coverage", query, context.signal);
    const revised = series[0]?.revisions ? await revisionsOf(context, asked) : [];
    show(body, ...contentOf(series[0], revised, context, words, asked));
  } catch (error) {
    if (context.signal.aborted) return;
    const message = error instanceof ApiError ? error.message : String(error);
    show(body, html("p", { class: "fault", role: "alert" }, words.failed(message)));
  }
}

/** The open times (ms) of the day's rows that were ever revised, where the node can name them: of klines. */
async function revisionsOf(context: Context, asked: Asked): Promise<number[]> {
  const kind = CHARTED[asked.kind];
  if (kind === undefined) return [];
  const day = { startTime: asked.dayMs, endTime: asked.dayMs + DAY_MS - 1, bars: 1 };
  const query = { symbol: symbolOf(asked.name), interval: asked.interval, kind, ...day };
  const { revised } = await context.api.get<{ revised: number[] }>("v1/bars", query, context.signal);
  return revised.slice(-REVISIONS_MAX);
}

function symbolOf(name: string): string {
  return name.split("@", 1)[0] ?? name;
}

function contentOf(
  series: SeriesCoverage | undefined,
  revised: number[],
  context: Context,
  words: CoverageWords,
  asked: Asked,
): Child[] {
  if (series === undefined) return [html("p", {}, words.noSpans)];
  const table = new Table(words.detailsOf, [words.what, words.from, words.until, words.more_], words.noSpans);
  table.rows([...rowsOf(series, words, asked.dayMs), ...revised.map((open) => [words.revised, moment(open), "", ""])]);
  const counts = [count(context.language, series.klines_missing), count(context.language, series.revisions)] as const;
  const kind = CHARTED[asked.kind];
  const chart = kind && link("chart", { symbol: symbolOf(asked.name), interval: asked.interval, kind });
  return [
    html("h3", {}, words.detailsOf),
    table.element,
    html("p", { class: "quiet" }, words.ofSeries(series.completeness, ...counts)),
    chart && html("p", {}, html("a", { href: chart }, words.chart)),
  ];
}

function rowsOf(series: SeriesCoverage, words: CoverageWords, dayMs: number): Child[][] {
  const of = (what: string, spans: (SpanAnswer & { more?: string })[]): Child[][] =>
    spans
      .filter((span) => span.start < dayMs + DAY_MS && span.end > dayMs)
      .map((span) => [
        what,
        moment(Math.max(span.start, dayMs)),
        moment(Math.min(span.end, dayMs + DAY_MS)),
        span.more ?? "",
      ]);
  return [
    ...of(words.missing, series.missing),
    ...of(
      words.disputed,
      series.disagreements.map((each) => ({
        start: each.open,
        end: each.open + 1,
        more: words.disputes(each.other, moment(each.seen)),
      })),
    ),
    ...of(words.held, series.held.map((span) => ({ ...span, more: words.source(span.source) }))),
    ...of(words.absent, series.absent),
    ...of(words.verified, series.verified.map((span) => ({ ...span, more: words.at(moment(span.at)) }))),
    ...of(words.wished, series.wished),
  ];
}
