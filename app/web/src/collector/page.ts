/** The page "collector". */

import type { Context, Page } from "../page";

export function collectorPage(place: HTMLElement, context: Context): Page {
  place.dataset["language"] = context.language;
  return { leave: () => undefined };
}
