/** What the chart shows, for tests. */

import type { Slot } from "./bars";
import type { Chart } from "./chart";

declare global {
  interface Window {
    /** A copy of what the chart shows, made when it is called. */
    klinenodeChart?: () => unknown;
  }
}

/** Let tests read the chart, until the function that is returned is called. */
export function exposeToTests(chart: Chart): () => void {
  window.klinenodeChart = () => {
    const { feed, shown, view, panes } = chart;
    const inView = view.shows(feed.bars) ? view.inView() : [];
    return {
      ...shown,
      step: feed.bars.step,
      bars: inView.flatMap((slot) => (slot.texts === null ? [] : [{ time: slot.time, ...slot.texts }])),
      range: rangeOf(inView),
      kept: feed.bars.slots.length,
      isNewest: feed.bars.isNewest,
      live: feed.live,
      marks: structuredClone(feed.bars.marks),
      panes: panes.counts(), logical: view.range(), lib: view.chart.timeScale().getVisibleLogicalRange(), isShown: view.shows(feed.bars), n: feed.bars.slots.length,
    };
  };
  return () => delete window.klinenodeChart;
}

function rangeOf(inView: readonly Slot[]): { from: number; to: number } | null {
  const [first, last] = [inView[0], inView[inView.length - 1]];
  return first === undefined || last === undefined ? null : { from: first.time, to: last.time };
}
