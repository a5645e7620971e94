/** The chart: candles of any held series, live, with panes of metrics below. */

import "./style.css";
import { html, setText, show } from "../dom";
import { moment } from "../language";
import type { Context, Page } from "../page";
import type { Slot } from "./bars";
import { Feed } from "./feed";
import { PANES, Panes, type PaneName } from "./panes";
import { searchOf } from "./search";
import { INTERVALS, KINDS, symbolsOf, type Interval, type Kind, type Shown } from "./source";
import { View } from "./view";
import { chartWords } from "./words";

const DEFAULT_SYMBOL = "BTCUSDT";
const SETTLED_MS = 250; // after the last move of the view, before panes are loaded
const WIDE_PX = 700; // narrower screens show the candles alone until panes are chosen

declare global {
  interface Window {
    /** What the chart shows, for tests: a copy, made when it is called. */
    klinenodeChart?: () => unknown;
  }
}

export function chartPage(place: HTMLElement, context: Context): Page {
  const words = chartWords[context.language];
  let shown = shownOf(context.parameters);
  let feed: Feed | null = null;
  let settled: ReturnType<typeof setTimeout> | undefined;
  let hovered: number | null = null;

  const legend = html("div", { class: "legend" });
  const canvas = html("div", { class: "canvas", role: "img" });
  const fault = html("p", { class: "fault", role: "alert", hidden: true });
  const state = html("span", { class: "state quiet" });
  const summary = html("p", { class: "quiet" });
  const search = searchOf(words, shown.symbol, () => symbolsOf(context.api, context.signal), (symbol) => change({ symbol }));
  const kinds = html(
    "select",
    { id: "chart-kind", onchange: () => change({ kind: kinds.value as Kind }) },
    ...KINDS.map((kind) => html("option", { value: kind, selected: kind === shown.kind }, words.kinds[kind])),
  );
  const intervals = new Map(
    INTERVALS.map((each) => [each, html("button", { type: "button", onclick: () => change({ interval: each }) }, each)]),
  );
  const toggles = new Map(
    PANES.map((each) => [each, html("button", { type: "button", onclick: () => toggle(each) }, words[each])]),
  );
  const again = html("button", { type: "button", onclick: () => open() }, words.again);
  show(
    place,
    html(
      "div",
      { class: "bar" },
      search.element,
      html("div", {}, html("label", { for: "chart-kind", class: "quiet" }, words.kind), kinds),
      html("fieldset", {}, html("legend", { class: "quiet" }, words.interval), ...intervals.values()),
      html("fieldset", {}, html("legend", { class: "quiet" }, words.panes), ...toggles.values()),
      state,
    ),
    legend,
    fault,
    canvas,
    html(
      "div",
      { class: "below" },
      summary,
      html("p", {}, html("a", { href: "https://www.tradingview.com/", rel: "noreferrer" }, words.attribution)),
    ),
  );

  open(); // the bars are on their way while the chart is built
  const view = new View(canvas);
  const panes = new Panes(view.chart, context.api, (error) => report(error, words.paneFailed));
  choosePanes(panesOf(context.parameters));

  function change(part: Partial<Shown>): void {
    const next = { ...shown, ...part };
    if (next.symbol === shown.symbol && next.kind === shown.kind && next.interval === shown.interval) return;
    shown = next;
    context.keep({ symbol: shown.symbol, kind: shown.kind === "klines" ? null : shown.kind, interval: shown.interval });
    open();
  }

  function open(): void {
    feed?.end();
    fault.hidden = true;
    for (const [interval, button] of intervals) button.setAttribute("aria-pressed", String(interval === shown.interval));
    canvas.setAttribute("aria-label", words.chart(`${shown.symbol} ${words.kinds[shown.kind]} ${shown.interval}`));
    const mine = new Feed(
      context.api,
      shown,
      {
        opened: (range) => {
          fault.hidden = true;
          view.open(mine.bars, range);
          settle();
        },
        changed: () => {
          view.change(mine.bars);
          settle();
        },
        updated: () => {
          view.update(mine.bars);
          draw();
        },
        state: draw,
        failed: report,
        range: () => view.range(),
      },
      context.signal,
    );
    feed = mine;
    void mine.start();
  }

  function report(error: unknown, said = words.failed): void {
    show(fault, said(error instanceof Error ? error.message : String(error)), " ", again);
    fault.hidden = false;
  }

  /** Once the view rests: load the panes, and say what is marked. */
  function settle(): void {
    draw();
    clearTimeout(settled);
    settled = setTimeout(() => {
      const inView = view.inView();
      const [first, last] = [inView[0], inView[inView.length - 1]];
      if (feed === null || first === undefined || last === undefined) return;
      setText(summary, summaryOf(feed, first.time, last.time + feed.bars.step));
      void panes.load(shown, feed.bars, first.time, last.time + feed.bars.step, context.signal).then(draw);
    }, SETTLED_MS);
  }

  function summaryOf({ bars, stride }: Feed, from: number, to: number): string {
    const { missing, absent, disputed, revised } = bars.marks;
    const counted = (spans: readonly (readonly [number, number])[]): number =>
      spans.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0) /
      (bars.step / stride);
    const counts = {
      missing: Math.ceil(counted(missing)),
      absent: Math.ceil(counted(absent)),
      disputed: Math.ceil(counted(disputed)),
      revised: revised.filter((at) => at >= from && at < to).length,
    };
    const marked = (Object.keys(counts) as (keyof typeof counts)[]).filter((key) => counts[key] > 0);
    const said = marked.map((key) => `${counts[key]} ${words.marked[key]}`).join(", ") || words.plain;
    return stride > 1 ? `${said} (${words.thinned(stride)})` : said;
  }

  function draw(): void {
    if (feed === null) return;
    const { bars } = feed;
    state.dataset["state"] = bars.isNewest ? feed.live : "history";
    setText(state, bars.isNewest ? words.states[feed.live] : words.history);
    const index = hovered === null ? bars.slots.length - 1 : bars.indexOf(hovered);
    drawLegend(bars.slots[index]);
  }

  function drawLegend(slot: Slot | undefined): void {
    if (slot === undefined) return show(legend, words.none);
    const item = (name: string, text: string): HTMLElement => html("span", {}, html("b", {}, name), text);
    const { texts } = slot;
    show(
      legend,
      html("span", {}, `${shown.symbol} ${moment(slot.time).slice(0, 16)} ${words.utc}`),
      ...(texts === null
        ? [html("span", {}, "—")]
        : (["open", "high", "low", "close", "volume"] as const).map((key) => item(words[key], texts[key]))),
      ...panes.at(slot.time).map(([word, text]) => item(words[word], text)),
    );
  }

  function choosePanes(names: readonly PaneName[]): void {
    panes.choose(names);
    for (const [name, button] of toggles) button.setAttribute("aria-pressed", String(names.includes(name)));
  }

  function toggle(name: PaneName): void {
    const names = panes.names.includes(name) ? panes.names.filter((each) => each !== name) : [...panes.names, name];
    choosePanes(names);
    context.keep({ panes: names.join(",") });
    settle();
  }

  function stepInterval(by: -1 | 1): void {
    const next = INTERVALS[INTERVALS.indexOf(shown.interval) + by];
    if (next !== undefined) change({ interval: next });
  }

  view.chart.subscribeCrosshairMove(({ time }) => {
    hovered = typeof time === "number" ? time * 1000 : null;
    draw();
  });
  view.chart.timeScale().subscribeVisibleLogicalRangeChange(() => {
    view.note();
    feed?.moved();
    settle();
  });
  context.onTheme(() => {
    view.paint();
    panes.paint();
  });
  const shortcuts: [string, string, () => void][] = [
    ["ArrowLeft", words.older, () => view.pan(-1)],
    ["ArrowRight", words.newer, () => view.pan(1)],
    ["+", words.zoomIn, () => view.zoom(true)],
    ["=", words.zoomIn, () => view.zoom(true)],
    ["-", words.zoomOut, () => view.zoom(false)],
    ["[", words.shorter, () => stepInterval(-1)],
    ["]", words.longer, () => stepInterval(1)],
    ["End", words.newest, () => void feed?.newest()],
    ["/", words.search, () => search.focus()],
  ];
  for (const [key, what, act] of shortcuts) context.shortcut({ key, what, act });
  window.klinenodeChart = () => {
    const inView = feed !== null && view.shows(feed.bars) ? view.inView() : [];
    return {
      ...shown,
      step: feed?.bars.step ?? 0,
      bars: inView.flatMap((slot) => (slot.texts === null ? [] : [{ time: slot.time, ...slot.texts }])),
      range: rangeOf(inView),
      kept: feed?.bars.slots.length ?? 0,
      isNewest: feed?.bars.isNewest ?? false,
      live: feed?.live ?? "connecting",
      marks: structuredClone(feed?.bars.marks),
      panes: panes.counts(),
    };
  };
  return {
    leave: () => {
      clearTimeout(settled);
      delete window.klinenodeChart;
      feed?.end();
      view.remove();
    },
  };
}

function rangeOf(inView: readonly Slot[]): { from: number; to: number } | null {
  const [first, last] = [inView[0], inView[inView.length - 1]];
  return first === undefined || last === undefined ? null : { from: first.time, to: last.time };
}

function shownOf(parameters: URLSearchParams): Shown {
  const [kind, interval] = [parameters.get("kind"), parameters.get("interval")];
  return {
    symbol: (parameters.get("symbol") ?? DEFAULT_SYMBOL).toUpperCase(),
    kind: KINDS.find((each) => each === kind) ?? "klines",
    interval: INTERVALS.find((each): each is Interval => each === interval) ?? "1m",
  };
}

function panesOf(parameters: URLSearchParams): PaneName[] {
  const asked = parameters.get("panes");
  if (asked !== null) return PANES.filter((each) => asked.split(",").includes(each));
  return window.innerWidth >= WIDE_PX ? ["interest", "funding"] : [];
}
