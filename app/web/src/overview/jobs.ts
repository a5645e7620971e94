/** The card of jobs: what is being fetched or compared, how far it is, and how long it will take at its pace. */

import type { Job, Overview } from "../answers";
import { html } from "../dom";
import { count, day, duration, percent, type Language } from "../language";
import { card, Table } from "../parts";
import { Samples } from "../rates";
import type { Shown } from "./cards";
import type { OverviewWords } from "./words";

const PACE_MS = 10 * 60_000; // the pace of an archive's file and of a page of REST differ: this levels them out

export function jobsCard(words: OverviewWords, language: Language): Shown {
  const table = new Table(words.jobs, [words.job, words.series, words.span, words.progress, words.eta], words.noJobs);
  const left = new Map<string, Samples>();
  const element = card(words.jobs, table.element);
  element.classList.add("wide");
  return {
    element,
    update(overview) {
      const jobs = [...history(overview), ...overview.jobs];
      const keys = new Set(jobs.map(keyOf));
      for (const key of left.keys()) if (!keys.has(key)) left.delete(key);
      const rows = jobs.map((job) => {
        const samples = left.get(keyOf(job)) ?? new Samples();
        left.set(keyOf(job), samples);
        samples.add(overview.as_of, Math.max(0, job.total - job.done));
        const rest = job.state === "running" ? samples.untilNone(PACE_MS) : null;
        const eta = rest !== null ? duration(language, rest) : job.state === "running" ? "…" : words.states[job.state];
        return [titleOf(job, words), namesOf(job, words, language), spanOf(job), progressOf(job, language), job.error ?? eta];
      });
      table.rows(rows, JSON.stringify(jobs.map((job, index) => [job, rows[index]?.[4]])));
    },
  };
}

/** What the settings wish for is a job too, as long as it is not fulfilled. */
function history({ numbers, ready }: Overview): (Job & { isHistory?: boolean })[] {
  const missing = numbers["klines_missing"] ?? 0;
  const total = numbers["klines_wished"] ?? 0;
  if (!missing) return [];
  const series = Object.values(ready.series).reduce((sum, each) => sum + each, 0);
  return [
    { job: "backfill", named: [], series, start: 0, end: 0, state: "running", total, done: total - missing, error: null, isHistory: true },
  ];
}

function keyOf(job: Job): string {
  return [job.job, job.start, job.end, job.named.join()].join(" ");
}

function titleOf(job: Job & { isHistory?: boolean }, words: OverviewWords): string {
  return job.isHistory ? words.history : words[job.job];
}

function namesOf(job: Job, words: OverviewWords, language: Language): string {
  if (!job.named.length) return count(language, job.series);
  const more = job.series - job.named.length;
  return job.named.join(", ") + (more > 0 ? words.more(more) : "");
}

function spanOf(job: Job): string {
  return job.end ? `${day(job.start)} – ${day(job.end)}` : "";
}

function progressOf(job: Job, language: Language): HTMLElement {
  const share = job.total ? Math.min(1, job.done / job.total) : 0;
  const text = percent(language, share);
  return html("span", { class: "metered" }, html("progress", { max: 1, value: share, "aria-label": text }), ` ${text}`);
}
