/** The letters of /v1/coverage/days: their colours, and the runs of days that somebody has to look at. */

/** One day of a series, as /v1/coverage/days names it. */
export type Letter = "v" | "h" | "a" | "p" | "m" | "d" | ".";

export const DAY_MS = 86_400_000;

/** The variable of src/style.css with a letter's colour; days of which nothing is known have none. */
export const COLOURS: Record<Exclude<Letter, ".">, string> = {
  v: "--verified",
  h: "--held",
  a: "--absent",
  p: "--partial",
  m: "--missing",
  d: "--disputed",
};

export const LEGEND: readonly Letter[] = ["v", "h", "a", "p", "m", "d"];

/** Days after each other that have the same letter; `first` and `last` count from 0. */
export interface Run {
  letter: Letter;
  first: number;
  last: number;
}

/** The runs of days that are missing, in part or whole, or disputed. */
export function openRuns(days: string): Run[] {
  return [...days.matchAll(/m+|p+|d+/g)].map((found) => ({
    letter: found[0][0] as Letter,
    first: found.index,
    last: found.index + found[0].length - 1,
  }));
}
