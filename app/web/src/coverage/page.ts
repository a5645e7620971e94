/** Coverage: which days of which series are held, proven absent, missing, verified or disputed. */

import { ApiError } from "../api";
import type { CoverageDays } from "../answers";
import { html, setText, show } from "../dom";
import { count, day } from "../language";
import type { Context, Page } from "../page";
import { Table } from "../parts";
import { poll } from "../polling";
import { openDetails } from "./details";
import { Heatmap, type Row } from "./heatmap";
import { DAY_MS, LEGEND, openRuns } from "./letters";
import { coverageWords } from "./words";
import "./style.css";

const EVERY_MS = 20_000; // days change when a minute is due or a span is repaired
const PAGE_SERIES = 100; // as many as the node gives in one answer
const DAYS = [14, 30, 90, 180, 400];
const DAYS_SHOWN = 90;
const NOT_WHOLE_MAX = 50; // rows of the table; the heatmap has all
const RUNS_MAX = 6; // of one series, the newest
const FIRST_KIND = "trades"; // klines made of trades, which every node holds

export function coveragePage(place: HTMLElement, context: Context): Page {
  const words = coverageWords[context.language];
  const chosen = {
    kind: context.parameters.get("kind") ?? FIRST_KIND,
    interval: context.parameters.get("interval") ?? "",
    days: Number(context.parameters.get("days")) || DAYS_SHOWN,
  };
  const kind = html("select", { id: "kind", onchange: () => choose("kind", kind.value) });
  const interval = html("select", { id: "interval", onchange: () => choose("interval", interval.value) });
  const days = html(
    "select",
    { id: "days", onchange: () => choose("days", days.value) },
    ...DAYS.map((each) => html("option", { value: each, selected: each === chosen.days }, words.daysOf(each))),
  );
  const filter = html("input", { id: "filter", type: "search", spellcheck: "false", oninput: () => draw() });
  const incomplete = html("input", { id: "incomplete", type: "checkbox", onchange: () => draw() });
  const summary = html("p", { class: "summary", id: "coverage-summary" }, "…");
  const fault = html("p", { class: "fault", role: "alert" });
  const under = html("p", { class: "under" }, words.help);
  const table = new Table(words.notWhole, [words.series, words.daysHead, words.missingRows, words.revisions], words.allWhole);
  const map = new Heatmap(
    words.map,
    (row, dayMs, letter) => {
      const text = `${row.symbol}, ${day(dayMs)}: ${words.letters[letter]}`;
      setText(under, text);
      context.announce(text);
    },
    (row, dayMs) => openDay(row, dayMs),
    context.signal,
  );
  map.element.setAttribute("aria-describedby", "coverage-summary");
  let loaded: { answer: CoverageDays; rows: Row[] } | null = null;
  let round = 0;

  function choose(name: "kind" | "interval" | "days", value: string): void {
    Object.assign(chosen, { [name]: name === "days" ? Number(value) : value });
    if (name === "kind") chosen.interval = "";
    context.keep({ kind: chosen.kind, interval: chosen.interval || null, days: String(chosen.days) });
    loaded = null;
    round++;
    again();
  }

  function openDay(row: Row, dayMs: number): void {
    if (!loaded) return;
    const { interval: code, kind: named } = loaded.answer;
    openDetails(context, words, { name: row.symbol, kind: named, interval: code, dayMs });
  }

  function draw(): void {
    if (!loaded) return;
    const { answer } = loaded;
    const wanted = filter.value.trim().toUpperCase();
    const rows = loaded.rows
      .filter((row) => row.symbol.toUpperCase().includes(wanted))
      .filter((row) => !incomplete.checked || row.missing > 0);
    map.show(rows, answer.start, answer.days);
    const open = rows.filter((row) => openRuns(row.days).length > 0);
    const counted = [count(context.language, rows.length), count(context.language, answer.days)] as const;
    setText(summary, rows.length ? words.summary(...counted, open.length) : words.nothing);
    table.rows(
      open.slice(0, NOT_WHOLE_MAX).map((row) => notWhole(row, answer)),
      JSON.stringify([answer.start, answer.interval, open.slice(0, NOT_WHOLE_MAX)]),
    );
  }

  function notWhole(row: Row, answer: CoverageDays): (Node | string)[] {
    const at = (index: number): number => answer.start + index * DAY_MS;
    const buttons = openRuns(row.days)
      .slice(-RUNS_MAX)
      .map((run) => {
        const span = run.first === run.last ? day(at(run.first)) : `${day(at(run.first))} ${words.to} ${day(at(run.last))}`;
        const text = `${span}: ${words.letters[run.letter]}`;
        return html("button", { type: "button", class: `run ${run.letter}`, onclick: () => openDay(row, at(run.last)) }, text);
      });
    return [row.symbol, html("span", { class: "row" }, ...buttons), count(context.language, row.missing), count(context.language, row.revisions)];
  }

  async function load(signal: AbortSignal): Promise<void> {
    const mine = round;
    const rows: Row[] = [];
    let answer: CoverageDays | null = null;
    do {
      const query = {
        kind: chosen.kind,
        interval: chosen.interval || null,
        days: chosen.days,
        offset: rows.length,
        limit: PAGE_SERIES,
      };
      answer = await context.api.get<CoverageDays>("v1/coverage/days", query, signal);
      if (mine !== round) return; // something else was chosen meanwhile, and is asked for next
      rows.push(...answer.series);
      fillChoices(answer);
      if (loaded === null || rows.length >= answer.total) {
        if (rows.length >= answer.total) loaded = { answer, rows };
        else setText(summary, words.loading(count(context.language, rows.length), count(context.language, answer.total)));
      }
    } while (answer.series.length > 0 && rows.length < answer.total);
    setText(fault, "");
    draw();
  }

  function fillChoices(answer: CoverageDays): void {
    const names = answer.kinds.map((each) => each.kind);
    fill(kind, names.includes(answer.kind) ? names : [answer.kind, ...names], answer.kind, words.kinds);
    const codes = answer.kinds.find((each) => each.kind === answer.kind)?.intervals ?? [];
    fill(interval, codes.includes(answer.interval) ? codes : [answer.interval, ...codes], answer.interval);
  }

  const again = poll(load, EVERY_MS, context.signal, (error) => {
    setText(fault, words.failed(error instanceof ApiError ? error.message : String(error)));
  });
  context.onTheme(() => map.paintSoon());
  context.shortcut({ key: "r", what: words.refresh, act: again });
  place.append(
    html(
      "div",
      { class: "row choices" },
      labelled(words.kind, kind),
      labelled(words.interval, interval),
      labelled(words.days, days),
      labelled(words.filter, filter),
      html("label", { class: "check" }, incomplete, ` ${words.incomplete}`),
    ),
    html(
      "ul",
      { class: "legend", "aria-label": words.legend },
      ...LEGEND.map((letter) => html("li", {}, html("span", { class: `swatch ${letter}` }), words.letters[letter])),
    ),
    summary,
    fault,
    map.element,
    under,
    html("h2", {}, words.notWhole),
    table.element,
  );
  return { leave: () => undefined };
}

function labelled(text: string, control: HTMLElement): HTMLElement {
  return html("div", {}, html("label", { for: control.id }, text), control);
}

function fill(select: HTMLSelectElement, values: string[], chosen: string, texts: Record<string, string> = {}): void {
  const same = select.options.length === values.length && values.every((each, at) => select.options[at]?.value === each);
  if (!same) show(select, ...values.map((each) => html("option", { value: each }, texts[each] ?? each)));
  if (document.activeElement !== select || !same) select.value = chosen;
}
