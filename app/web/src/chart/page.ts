/** The page "chart". */

import type { Context, Page } from "../page";

export function chartPage(place: HTMLElement, context: Context): Page {
  place.dataset["language"] = context.language;
  return { leave: () => undefined };
}
