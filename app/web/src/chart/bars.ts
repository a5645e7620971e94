/** Bars in memory: one run of slots at one step, the exact texts kept, whatever order pages and frames come in. */

/** What GET v1/bars answers. Times in ms; spans are half-open. */
export interface BarsAnswer {
  step: number;
  start: number;
  end: number;
  bars: { time: number[]; open: string[]; high: string[]; low: string[]; close: string[]; volume: string[] };
  absent: Span[];
  missing: Span[];
  disputed: Span[];
  revised: number[];
  /** The oldest kline held of the series. */
  first: number | null;
}

export type Span = readonly [startMs: number, endMs: number];

/** A place in time; without texts where no kline is. */
export interface Slot {
  time: number;
  texts: Texts | null;
}

export interface Texts {
  open: string;
  high: string;
  low: string;
  close: string;
  volume: string;
}

/** A kline as the socket or REST has it while it is in progress, or when it closes. */
export interface LiveBar {
  time: number;
  /** When the exchange made the frame; of REST: 0. */
  eventMs: number;
  isFinal: boolean;
  texts: Texts;
}

/** What became of a live bar: it is shown, it was late, or bars before it have to be fetched first. */
export type Taken = "shown" | "late" | "gap";

const KEPT_MAX = 20_000; // slots; setting more at once freezes the page

export interface Marks {
  absent: Span[];
  missing: Span[];
  disputed: Span[];
  revised: number[];
}

export class Bars {
  slots: Slot[] = [];
  marks: Marks = { absent: [], missing: [], disputed: [], revised: [] };
  /** Whether the run ends with the newest closed kline, and the kline in progress behind it. */
  isNewest = true;
  first: number | null = null;
  private eventMs = 0;
  private closedEnd = 0;

  /** `hasGaps`: the slots of a calendar (weeks, months) have no fixed step, so nothing is put into their holes. */
  constructor(
    readonly step: number,
    private readonly hasGaps: boolean,
  ) {}

  /** The end of what is known to be closed: open times from here on are still to come. */
  get end(): number {
    return this.closedEnd;
  }

  get begin(): number {
    return this.slots[0]?.time ?? this.closedEnd;
  }

  /** The index of the first slot at or after `time`. */
  indexOf(time: number): number {
    let low = 0;
    let high = this.slots.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.slots[middle] as Slot).time < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Take a page that meets the run or overlaps it. What it states of its span replaces what was there. */
  take(answer: BarsAnswer, isNewest: boolean): void {
    const page = slotsOf(answer, this.hasGaps);
    const before = this.slots.slice(0, this.indexOf(answer.start));
    let after = this.slots.slice(this.indexOf(answer.end));
    if (answer.end >= this.closedEnd) {
      this.closedEnd = answer.end;
      this.isNewest = isNewest;
      after = isNewest ? after : []; // only the kline in progress may be behind the closed ones
    }
    this.slots = [...before, ...page, ...after];
    this.first = answer.first;
    const outside = (span: Span): Span[] => {
      const parts: Span[] = [[span[0], Math.min(span[1], answer.start)], [Math.max(span[0], answer.end), span[1]]];
      return parts.filter(([start, end]) => start < end);
    };
    const { marks } = this;
    this.marks = {
      absent: joined([...marks.absent.flatMap(outside), ...answer.absent]),
      missing: joined([...marks.missing.flatMap(outside), ...answer.missing]),
      disputed: joined([...marks.disputed.flatMap(outside), ...answer.disputed]),
      revised: [...marks.revised.filter((at) => at < answer.start || at >= answer.end), ...answer.revised],
    };
  }

  /** Take a bar that is not known to be closed by the node yet. Frames that are older than the bar in hand are dropped. */
  takeLive(bar: LiveBar): Taken {
    if (!this.isNewest || bar.time < this.closedEnd) return "late";
    const last = this.slots[this.slots.length - 1];
    const isSame = last !== undefined && last.time === bar.time;
    if (isSame && bar.eventMs < this.eventMs) return "late";
    if (last !== undefined && last.time > bar.time) return "late";
    if (!isSame && !this.hasGaps && bar.time !== this.closedEnd) return "gap";
    if (!isSame && this.hasGaps && last !== undefined && last.time >= this.closedEnd) return "gap";
    if (isSame) this.slots[this.slots.length - 1] = { time: bar.time, texts: bar.texts };
    else this.slots.push({ time: bar.time, texts: bar.texts });
    this.eventMs = isSame ? Math.max(this.eventMs, bar.eventMs) : bar.eventMs;
    if (bar.isFinal) {
      this.closedEnd = bar.time + (this.hasGaps ? 1 : this.step);
    }
    return "shown";
  }

  /** Drop slots far from those in view when there are too many; returns how many at the begin. */
  trim(from: number, to: number): number {
    const tooMany = this.slots.length - KEPT_MAX;
    if (tooMany <= 0) return 0;
    const older = Math.max(0, Math.floor(from));
    const newer = Math.max(0, this.slots.length - Math.ceil(to));
    const atBegin = older > newer ? Math.min(tooMany, older) : 0;
    const atEnd = Math.min(tooMany - atBegin, newer);
    if (atEnd > 0) {
      this.isNewest = false;
      this.slots = this.slots.slice(0, this.slots.length - atEnd);
      this.closedEnd = (this.slots[this.slots.length - 1]?.time ?? 0) + this.step;
    }
    this.slots = this.slots.slice(atBegin);
    const inside = ([start, end]: Span): boolean => end > this.begin && start < this.closedEnd;
    const { absent, missing, disputed, revised } = this.marks;
    this.marks = {
      absent: absent.filter(inside),
      missing: missing.filter(inside),
      disputed: disputed.filter(inside),
      revised: revised.filter((at) => at >= this.begin && at < this.closedEnd),
    };
    return atBegin;
  }
}

/** The same times in the fewest spans, in order. */
function joined(spans: Span[]): Span[] {
  const made: Span[] = [];
  for (const [start, end] of spans.sort(([a], [b]) => a - b)) {
    const last = made[made.length - 1];
    if (last !== undefined && start <= last[1]) made[made.length - 1] = [last[0], Math.max(last[1], end)];
    else made.push([start, end]);
  }
  return made;
}

/** The slots of a page, with an empty one at each time that has no kline, so that a hole is seen. */
function slotsOf(answer: BarsAnswer, hasGaps: boolean): Slot[] {
  const { time, open, high, low, close, volume } = answer.bars;
  const made: Slot[] = [];
  let next = answer.start;
  for (let index = 0; index < time.length; index++) {
    const at = time[index] as number;
    for (; !hasGaps && next < at; next += answer.step) made.push({ time: next, texts: null });
    const texts = {
      open: open[index] as string,
      high: high[index] as string,
      low: low[index] as string,
      close: close[index] as string,
      volume: volume[index] as string,
    };
    made.push({ time: at, texts });
    next = at + answer.step;
  }
  for (; !hasGaps && next < answer.end; next += answer.step) made.push({ time: next, texts: null });
  return made;
}
