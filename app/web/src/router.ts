/** Which page the address names: `#/coverage?kind=klines`. Only what is behind the # changes, so any prefix works. */

export interface Place {
  page: string;
  parameters: URLSearchParams;
}

/** The page that the address names; an empty name at the front. */
export function place(): Place {
  const [page = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { page, parameters: new URLSearchParams(query) };
}

/** The address of a page, for links. */
export function link(page: string, parameters: Record<string, string> = {}): string {
  const query = new URLSearchParams(parameters).toString();
  return `#/${page}${query ? `?${query}` : ""}`;
}

/** Change the parameters of the page that is shown without mounting it again; null removes one. */
export function keep(parameters: Record<string, string | null>): void {
  const shown = place();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null) shown.parameters.delete(name);
    else shown.parameters.set(name, value);
  }
  history.replaceState(null, "", link(shown.page, Object.fromEntries(shown.parameters)));
}
