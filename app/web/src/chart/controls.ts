/** The controls above the chart: symbol, prices, interval and panes. */

import { html } from "../dom";
import { PANES, type PaneName } from "./panes";
import { searchOf, type Search } from "./search";
import { INTERVALS, KINDS, type Kind, type Shown } from "./source";
import type { ChartWords } from "./words";

export interface Choices {
  /** All symbols there are; asked for when somebody first searches. */
  symbols(): Promise<string[]>;
  change(part: Partial<Shown>): void;
  toggle(pane: PaneName): void;
}

export class Controls {
  readonly element: HTMLElement;
  private readonly search: Search;
  private readonly intervals: Map<string, HTMLElement>;
  private readonly toggles: Map<PaneName, HTMLElement>;

  /** `state` is shown at the end of the row. */
  constructor(words: ChartWords, shown: Shown, state: HTMLElement, choices: Choices) {
    const button = (text: string, act: () => void): HTMLElement => html("button", { type: "button", onclick: act }, text);
    this.search = searchOf(words, shown.symbol, () => choices.symbols(), (symbol) => choices.change({ symbol }));
    const kinds = html(
      "select",
      { id: "chart-kind", onchange: () => choices.change({ kind: kinds.value as Kind }) },
      ...KINDS.map((kind) => html("option", { value: kind, selected: kind === shown.kind }, words.kinds[kind])),
    );
    this.intervals = new Map(INTERVALS.map((each) => [each, button(each, () => choices.change({ interval: each }))]));
    this.toggles = new Map(PANES.map((each) => [each, button(words[each], () => choices.toggle(each))]));
    this.element = html(
      "div",
      { class: "bar" },
      this.search.element,
      html("div", {}, html("label", { for: kinds.id, class: "quiet" }, words.kind), kinds),
      html("fieldset", {}, html("legend", { class: "quiet" }, words.interval), ...this.intervals.values()),
      html("fieldset", {}, html("legend", { class: "quiet" }, words.panes), ...this.toggles.values()),
      state,
    );
  }

  /** Mark what is chosen. */
  show({ interval }: Shown, panes: readonly PaneName[]): void {
    for (const [name, button] of this.intervals) button.setAttribute("aria-pressed", String(name === interval));
    for (const [name, button] of this.toggles) button.setAttribute("aria-pressed", String(panes.includes(name)));
  }

  /** Put the focus into the search for a symbol. */
  find(): void {
    this.search.focus();
  }
}
