/** Parts that several pages are made of: cards, facts that change in place, tables, a sparkline. */

import { html, setText, show, svg, type Child } from "./dom";

export type Tone = "good" | "warn" | "bad" | "plain";

/** A card with a heading. */
export function card(title: string, ...children: Child[]): HTMLElement {
  return html("section", { class: "card" }, html("h2", {}, title), ...children);
}

/** A list of labels and values, whose values change in place. */
export class Facts {
  readonly element = html("dl", { class: "facts" });
  private readonly values = new Map<string, HTMLElement>();

  set(label: string, value: string, tone: Tone = "plain"): void {
    let place = this.values.get(label);
    if (place === undefined) {
      place = html("dd");
      this.values.set(label, place);
      this.element.append(html("div", {}, html("dt", {}, label), place));
    }
    setText(place, value);
    place.className = tone;
  }
}

/** A table that is written again only when its cells change, in a region that scrolls, by keys too. The first cell of a
 * row is its heading. */
export class Table {
  readonly element: HTMLElement;
  private readonly body = html("tbody");
  private shown = "";

  constructor(label: string, heads: string[], private readonly empty: string) {
    const head = html("tr", {}, ...heads.map((each) => html("th", { scope: "col" }, each)));
    this.element = html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, html("table", {}, html("thead", {}, head), this.body));
  }

  /** `key` decides whether the rows are new; without one their texts do. */
  rows(rows: Child[][], key?: string): void {
    const now = key ?? JSON.stringify(rows);
    if (now === this.shown) return;
    this.shown = now;
    const filled = rows.map(([head, ...cells]) =>
      html("tr", {}, html("th", { scope: "row" }, head), ...cells.map((cell) => html("td", {}, cell))),
    );
    const width = this.element.querySelectorAll("th[scope=col]").length;
    show(this.body, ...(filled.length ? filled : [html("tr", {}, html("td", { colspan: width, class: "quiet" }, this.empty))]));
  }
}

/** A line of the newest values, for the eye only: the number stands beside it. */
export class Sparkline {
  private readonly line = svg("polyline", { fill: "none", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" });
  readonly element = svg(
    "svg",
    { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    this.line,
  );

  draw(values: number[]): void {
    const largest = Math.max(...values, 1e-9);
    const step = 100 / Math.max(1, values.length - 1);
    const points = values.map((value, index) => `${(index * step).toFixed(2)},${(19 - (18 * value) / largest).toFixed(2)}`);
    this.line.setAttribute("points", points.join(" "));
  }
}
