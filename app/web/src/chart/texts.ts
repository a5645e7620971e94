/** The texts around the canvas: the numbers of one bar, what is marked in view, how live it is, and what went wrong. */

import { html, setText, show } from "../dom";
import { moment } from "../language";
import type { Slot } from "./bars";
import type { Feed } from "./feed";
import type { Panes } from "./panes";
import type { Shown } from "./source";
import { countsOf, type Counts } from "./summary";
import type { ChartWords } from "./words";

export class Texts {
  readonly legend = html("div", { class: "legend" });
  readonly fault = html("p", { class: "fault", role: "alert", hidden: true });
  readonly state = html("span", { class: "state quiet" });
  readonly summary = html("p", { class: "quiet" });

  /** `again`: what the button beside a fault does. */
  constructor(
    private readonly words: ChartWords,
    private readonly again: () => void,
  ) {}

  /** Say how live the feed is. */
  showState({ bars, live }: Feed): void {
    this.state.dataset["state"] = bars.isNewest ? live : "history";
    setText(this.state, bars.isNewest ? this.words.states[live] : this.words.history);
  }

  /** Print a bar by the exchange's own digits, and what the panes have at its time. */
  showBar(slot: Slot | undefined, shown: Shown, panes: Panes): void {
    if (slot === undefined) return show(this.legend, this.words.none);
    const { words } = this;
    const item = (name: string, text: string): HTMLElement => html("span", {}, html("b", {}, name), text);
    const { texts } = slot;
    show(
      this.legend,
      html("span", {}, `${shown.symbol} ${moment(slot.time).slice(0, 16)} ${words.utc}`),
      ...(texts === null
        ? [html("span", {}, "—")]
        : (["open", "high", "low", "close", "volume"] as const).map((key) => item(words[key], texts[key]))),
      ...panes.at(slot.time).map(([word, text]) => item(words[word], text)),
    );
  }

  /** Say what is marked of the slots in view. */
  showSummary({ bars, stride }: Feed, inView: readonly Slot[]): void {
    const [first, last] = [inView[0], inView[inView.length - 1]];
    if (first === undefined || last === undefined) return setText(this.summary, "");
    const counts = countsOf(bars.marks, first.time, last.time + bars.step, bars.step / stride);
    const marked = (["missing", "absent", "disputed", "revised"] satisfies (keyof Counts)[]).filter((key) => counts[key] > 0);
    const said = marked.map((key) => `${counts[key]} ${this.words.marked[key]}`).join(", ") || this.words.plain;
    setText(this.summary, stride > 1 ? `${said} (${this.words.thinned(stride)})` : said);
  }

  /** Say what could not be loaded. */
  showFault(error: unknown, said: (why: string) => string): void {
    const button = html("button", { type: "button", onclick: this.again }, this.words.again);
    show(this.fault, said(error instanceof Error ? error.message : String(error)), " ", button);
    this.fault.hidden = false;
  }

  hideFault(): void {
    this.fault.hidden = true;
  }
}
