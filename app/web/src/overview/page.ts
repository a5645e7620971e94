/** The page "overview". */

import type { Context, Page } from "../page";

export function overviewPage(place: HTMLElement, context: Context): Page {
  place.dataset["language"] = context.language;
  return { leave: () => undefined };
}
