/** The page "coverage". */

import type { Context, Page } from "../page";

export function coveragePage(place: HTMLElement, context: Context): Page {
  place.dataset["language"] = context.language;
  return { leave: () => undefined };
}
