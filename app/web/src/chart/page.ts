/** The chart's page: candles of any held series, live, with panes of metrics below. */

import "./style.css";
import type { Context, Page } from "../page";
import { Chart } from "./chart";
import { exposeToTests } from "./probe";
import { chartWords } from "./words";

export function chartPage(place: HTMLElement, context: Context): Page {
  const words = chartWords[context.language];
  const chart = new Chart(context, words, place);
  const shortcuts: [string, string, () => void][] = [
    ["ArrowLeft", words.older, () => chart.view.pan(-1)],
    ["ArrowRight", words.newer, () => chart.view.pan(1)],
    ["+", words.zoomIn, () => chart.view.zoom(true)],
    ["=", words.zoomIn, () => chart.view.zoom(true)],
    ["-", words.zoomOut, () => chart.view.zoom(false)],
    ["[", words.shorter, () => chart.stepInterval(-1)],
    ["]", words.longer, () => chart.stepInterval(1)],
    ["End", words.newest, () => void chart.feed.newest()],
    ["/", words.search, () => chart.controls.find()],
  ];
  for (const [key, what, act] of shortcuts) context.shortcut({ key, what, act });
  const hide = exposeToTests(chart);
  return {
    leave: () => {
      hide();
      chart.leave();
    },
  };
}
