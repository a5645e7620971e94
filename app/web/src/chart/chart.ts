/** One chart: the feed of the series that is chosen, drawn by the view, with panes below and texts around. */

import { html, show } from "../dom";
import type { Context } from "../page";
import { addressOf, panesOf, shownOf } from "./address";
import { Controls } from "./controls";
import { Feed } from "./feed";
import { Panes, type PaneName } from "./panes";
import { INTERVALS, symbolsOf, type Shown } from "./source";
import { Texts } from "./texts";
import { View } from "./view";
import type { ChartWords } from "./words";

const SETTLED_MS = 250; // after the last move of the view, before panes are loaded

export class Chart {
  shown: Shown;
  feed: Feed;
  private readonly canvas = html("div", { class: "canvas", role: "img" });
  private readonly texts: Texts;
  readonly controls: Controls;
  readonly view: View;
  readonly panes: Panes;
  private settled: ReturnType<typeof setTimeout> | undefined;
  private hovered: number | null = null;

  /** Fill `place`, and begin. */
  constructor(
    private readonly context: Context,
    private readonly words: ChartWords,
    place: HTMLElement,
  ) {
    this.shown = shownOf(context.parameters);
    this.texts = new Texts(words, () => this.reopen());
    this.controls = new Controls(words, this.shown, this.texts.state, {
      symbols: () => symbolsOf(context.api, context.signal),
      change: (part) => this.change(part),
      toggle: (pane) => this.toggle(pane),
    });
    const attribution = html("a", { href: "https://www.tradingview.com/", rel: "noreferrer" }, words.attribution);
    const below = html("div", { class: "below" }, this.texts.summary, html("p", {}, attribution));
    show(place, this.controls.element, this.texts.legend, this.texts.fault, this.canvas, below);
    this.feed = this.opened(); // the bars are on their way while the chart is built
    this.view = new View(this.canvas, (bars) => this.panes.show(bars));
    this.panes = new Panes(this.view.chart, context.api, (error) => this.texts.showFault(error, words.paneFailed));
    this.choose(panesOf(context.parameters));
    this.listen();
  }

  leave(): void {
    clearTimeout(this.settled);
    this.feed.end();
    this.view.remove();
  }

  /** Show another series. */
  change(part: Partial<Shown>): void {
    const next = { ...this.shown, ...part };
    if (next.symbol === this.shown.symbol && next.kind === this.shown.kind && next.interval === this.shown.interval) return;
    if (next.symbol !== this.shown.symbol) this.panes.forget();
    this.shown = next;
    this.context.keep(addressOf(next));
    this.controls.show(next, this.panes.names);
    this.reopen();
  }

  /** Show the interval before or after. */
  stepInterval(by: -1 | 1): void {
    const next = INTERVALS[INTERVALS.indexOf(this.shown.interval) + by];
    if (next !== undefined) this.change({ interval: next });
  }

  private toggle(name: PaneName): void {
    const { names } = this.panes;
    const chosen = names.includes(name) ? names.filter((each) => each !== name) : [...names, name];
    this.choose(chosen);
    this.context.keep({ panes: chosen.join(",") });
    this.settle();
  }

  private choose(names: readonly PaneName[]): void {
    this.panes.choose(names);
    this.controls.show(this.shown, names);
  }

  private reopen(): void {
    this.feed.end();
    this.feed = this.opened();
  }

  /** A feed of what is shown, which has begun. */
  private opened(): Feed {
    const { shown, words, texts } = this;
    texts.hideFault();
    this.canvas.setAttribute("aria-label", words.chart(`${shown.symbol} ${words.kinds[shown.kind]} ${shown.interval}`));
    const feed: Feed = new Feed(
      this.context.api,
      shown,
      {
        opened: (view) => this.filled(() => this.view.open(feed.bars, view)),
        changed: () => this.filled(() => this.view.change(feed.bars)),
        updated: () => {
          this.view.update(feed.bars);
          this.draw();
        },
        state: () => this.draw(),
        failed: (error) => {
          if (feed.bars.slots.length === 0) this.view.open(feed.bars, null); // not the bars of what was shown before
          texts.showFault(error, words.failed);
          this.settle();
        },
        range: () => this.view.range(),
      },
      this.context.signal,
    );
    void feed.start();
    return feed;
  }

  private filled(draw: () => void): void {
    this.texts.hideFault();
    draw();
    this.settle();
  }

  /** Once the view rests: load the panes, and say what is marked. */
  private settle(): void {
    this.draw();
    clearTimeout(this.settled);
    this.settled = setTimeout(() => {
      const { feed, view, shown } = this;
      const inView = view.inView();
      this.texts.showSummary(feed, inView);
      const [first, last] = [inView[0], inView[inView.length - 1]];
      if (first === undefined || last === undefined) return;
      const end = last.time + feed.bars.step;
      void this.panes.load(shown, feed.bars, first.time, end, this.context.signal).then(() => this.drawPanes());
    }, SETTLED_MS);
  }

  private drawPanes(): void {
    if (this.context.signal.aborted || !this.view.shows(this.feed.bars)) return; // other bars bring the panes along
    this.panes.show(this.feed.bars);
    this.draw();
  }

  private draw(): void {
    const { bars } = this.feed;
    this.texts.showState(this.feed);
    const index = this.hovered === null ? bars.slots.length - 1 : bars.indexOf(this.hovered);
    this.texts.showBar(bars.slots[index], this.shown, this.panes);
  }

  private listen(): void {
    this.view.chart.subscribeCrosshairMove(({ time }) => {
      this.hovered = typeof time === "number" ? time * 1000 : null;
      this.draw();
    });
    this.view.onMove(() => {
      this.feed.moved();
      this.settle();
    });
    this.context.onTheme(() => {
      this.view.paint();
      this.panes.paint();
    });
  }
}
