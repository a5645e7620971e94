/** Rates of what is counted: how fast a number moved over the newest samples of it. */

const SAMPLES_MAX = 240; // at one each three seconds: twelve minutes, of which a page shows some

/** The samples of one number, oldest first. */
export class Samples {
  private readonly kept: { timeMs: number; value: number }[] = [];

  add(timeMs: number, value: number): void {
    const last = this.kept.at(-1);
    if (last !== undefined && last.timeMs >= timeMs) return; // the answer of another moment came late
    if (this.kept.push({ timeMs, value }) > SAMPLES_MAX) this.kept.shift();
  }

  /** How much the number grew a second, over the samples of the last `windowMs`; null before there are two, and when a
   * counter began again. */
  perSecond(windowMs: number): number | null {
    const last = this.kept.at(-1);
    const first = last && this.kept.find((each) => each.timeMs >= last.timeMs - windowMs);
    if (!last || !first || first === last || last.value < first.value) return null;
    return ((last.value - first.value) / (last.timeMs - first.timeMs)) * 1000;
  }

  /** When `left`, which shrinks, will be 0 at the pace of the last `windowMs`, in ms from now; null when it does not
   * shrink. */
  untilNone(windowMs: number): number | null {
    const last = this.kept.at(-1);
    const first = last && this.kept.find((each) => each.timeMs >= last.timeMs - windowMs);
    if (!last || !first || last.value >= first.value) return null;
    return (last.value * (last.timeMs - first.timeMs)) / (first.value - last.value);
  }

  /** The growth a second between each sample and the next. */
  steps(): number[] {
    return this.kept.slice(1).map((each, index) => {
      const before = this.kept[index] ?? each;
      return (Math.max(0, each.value - before.value) / Math.max(1, each.timeMs - before.timeMs)) * 1000;
    });
  }
}
