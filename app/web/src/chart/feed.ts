/** Fills bars: pages of history as the view moves, how many klines a bar is made of, and what closes meanwhile. */

import { ApiError, type Api } from "../api";
import { Bars, type BarsAnswer, type LiveBar } from "./bars";
import { followRows, followStream, type LiveState } from "./live";
import { isThinned, lengthOf, newestRows, pageOf, type Page, type Shown } from "./source";

const PAGE_BARS = 1_500;
const FIRST_BARS = 1_000; // a wide screen's, and half a page of history
const PAGE_ROWS_MAX = 30_000; // klines behind a page: half of what the node takes, and half a second of it
const AHEAD = 300; // slots beyond the edge of the view, from which on the next page is fetched
const IN_VIEW_MAX = 4_000; // bars; more are thinner than a pixel on any screen
const IN_VIEW_MIN = 300; // bars; with fewer of them each is made of fewer klines
const IN_VIEW_AIM = 1_200;
const STRIDES = [1, 5, 15, 60, 240] as const;
const PAUSE_MS = 3_000; // after a page that could not be fetched; then it is asked for again, unless the node refused it

/** The indexes of the first and the last slot in view; they may lie outside of the slots. */
export interface Range {
  from: number;
  to: number;
}

export interface FeedListener {
  /** Other bars: show `view` (ms), or the newest if it is null. */
  opened(view: readonly [from: number, to: number] | null): void;
  /** Bars were added or replaced anywhere; what is in view stays there. */
  changed(): void;
  /** Only the last bar changed, or one was added behind it. */
  updated(): void;
  state(state: LiveState): void;
  failed(error: unknown): void;
  range(): Range | null;
}

export class Feed {
  bars: Bars;
  stride = 1;
  live: LiveState = "connecting";
  private isLoading = false;
  private pausedUntil = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private ending = new AbortController();

  constructor(
    private readonly api: Api,
    readonly shown: Shown,
    private readonly listener: FeedListener,
    signal: AbortSignal,
  ) {
    this.bars = this.made(1);
    signal.addEventListener("abort", () => this.end());
  }

  end(): void {
    clearTimeout(this.retry);
    this.ending.abort();
  }

  /** Show the newest bars and follow them. */
  async start(): Promise<void> {
    await this.open(1, null);
    const listener = {
      bar: (bar: LiveBar) => this.takeLive(bar),
      state: (state: LiveState) => {
        this.live = state;
        this.listener.state(state);
      },
      missed: () => void this.tail(),
    };
    const { signal } = this.ending;
    if (signal.aborted) return;
    const { symbol, interval, kind } = this.shown;
    if (kind === "klines" && !this.api.hasKey()) {
      followStream(this.api, `${symbol.toLowerCase()}@kline_${interval}`, listener, signal);
    } else {
      followRows(() => newestRows(this.api, this.shown, signal), listener, signal);
    }
  }

  /** Show the newest bars, wherever the view was. */
  async newest(): Promise<void> {
    if (this.bars.isNewest) this.listener.opened(null);
    else await this.open(this.stride, null);
  }

  /** The view moved: fetch what it comes near to, or bars of more or fewer klines. */
  moved(): void {
    const range = this.listener.range();
    if (range === null || this.isLoading || Date.now() < this.pausedUntil || this.bars.slots.length === 0) return;
    const { begin, step, first, slots } = this.bars;
    const oldest = ((first ?? begin) - begin) / step;
    const inView = Math.min(range.to, slots.length) - Math.max(range.from, oldest); // not the emptiness around them
    const stride = this.strideFor(Math.max(1, inView));
    if (stride !== this.stride) {
      void this.open(stride, this.timesOf(range));
    } else if (range.from < AHEAD && this.hasOlder()) void this.older();
    else if (range.to > slots.length - AHEAD && !this.bars.isNewest) void this.newer();
  }

  private timesOf({ from, to }: Range): readonly [number, number] {
    const { begin, step } = this.bars;
    return [begin + from * step, begin + to * step];
  }

  private hasOlder(): boolean {
    const { first, begin } = this.bars;
    return first !== null && first < begin;
  }

  private strideFor(inView: number): number {
    if (!isThinned(this.shown.interval)) return 1;
    if (inView <= IN_VIEW_MAX && (inView >= IN_VIEW_MIN || this.stride === 1)) return this.stride;
    const klines = inView * this.stride;
    return STRIDES.find((each) => klines / each <= IN_VIEW_AIM) ?? 240;
  }

  private made(stride: number): Bars {
    return new Bars(lengthOf(this.shown.interval) * stride, !isThinned(this.shown.interval));
  }

  private pageBars(stride: number): number {
    return Math.min(PAGE_BARS, Math.floor(PAGE_ROWS_MAX / stride));
  }

  private async open(stride: number, view: readonly [number, number] | null): Promise<void> {
    const bars = this.made(stride);
    const most = this.pageBars(stride);
    const { step } = bars;
    const page: Page = { bars: view === null ? Math.min(FIRST_BARS, most) : most, step, start: null, end: null };
    if (view !== null && view[1] < this.bars.end) {
      // bars that end with the view; older ones follow
      page.end = Math.ceil(view[1] / step) * step;
      page.start = Math.max(0, page.end - most * step);
    }
    await this.load(page, (answer) => {
      const range = this.listener.range();
      const now = view === null || range === null ? view : this.timesOf(range); // it may have moved on meanwhile
      bars.take(answer, page.end === null);
      this.stride = stride;
      this.bars = bars;
      this.listener.opened(now);
    });
  }

  private async older(): Promise<void> {
    const { begin, step } = this.bars;
    const most = this.pageBars(this.stride);
    await this.load({ bars: most, step, start: Math.max(0, begin - most * step), end: begin }, (answer) => {
      this.take(answer, false);
    });
  }

  private async newer(): Promise<void> {
    const { end: known, step } = this.bars;
    const most = this.pageBars(this.stride);
    const start = Math.floor(known / step) * step;
    const end = start + most * step;
    await this.load({ bars: most, step, start, end }, (answer) => this.take(answer, answer.end < end));
  }

  /** Fetch what closed since the newest closed bar, that one included. */
  private async tail(): Promise<void> {
    const { slots, isNewest, step } = this.bars;
    if (slots.length === 0) return Date.now() < this.pausedUntil ? undefined : this.open(this.stride, null);
    if (!isNewest) return;
    const last = slots[Math.max(0, this.bars.indexOf(this.bars.end) - 1)];
    const start = last?.time ?? this.bars.begin;
    const most = this.pageBars(this.stride);
    await this.load({ bars: most, step, start, end: null }, (answer) => {
      this.take(answer, true);
    });
  }

  private take(answer: BarsAnswer, isNewest: boolean): void {
    const range = this.listener.range();
    const before = this.bars.begin;
    this.bars.take(answer, isNewest);
    if (range !== null) {
      const added = this.bars.indexOf(before);
      this.bars.trim(range.from + added, range.to + added);
    }
    this.listener.changed();
  }

  private async load(page: Page, taken: (answer: BarsAnswer) => void): Promise<void> {
    if (this.isLoading) return;
    this.isLoading = true;
    try {
      const answer = await pageOf(this.api, this.shown, page, this.ending.signal);
      this.isLoading = false;
      if (this.ending.signal.aborted) return;
      if (answer.step !== page.step) {
        // so much has closed meanwhile that a page cannot hold it: begin anew
        if (page.start !== null && page.end === null) return await this.open(this.stride, null);
        throw new Error(`${answer.step} ms ≠ ${page.step} ms`);
      }
      taken(answer);
      this.moved(); // the view may have moved on meanwhile
    } catch (error) {
      this.isLoading = false;
      if (this.ending.signal.aborted) return;
      this.pausedUntil = Date.now() + PAUSE_MS;
      this.listener.failed(error);
      const isRefused = error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
      clearTimeout(this.retry);
      if (!isRefused) this.retry = setTimeout(() => this.again(), PAUSE_MS);
    }
  }

  /** Fetch what could not be fetched: the first bars, what closed meanwhile, or what the view is near to. */
  private again(): void {
    this.pausedUntil = 0;
    void this.tail().then(() => this.moved());
  }

  private takeLive(bar: LiveBar): void {
    if (this.stride > 1) {
      if (bar.isFinal) void this.tail(); // sums of exact numbers are made by the node
      return;
    }
    const taken = this.bars.takeLive(bar);
    if (taken === "shown") this.listener.updated();
    else if (taken === "gap") void this.tail();
  }
}
