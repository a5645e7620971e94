/** Dark or light: the browser's wish, unless another one was chosen here. */

import { remember, remembered } from "./language";

export type Theme = "dark" | "light";

const KEY = "klinenode.theme";
let chosen: Theme | null = null; // what was chosen here, where the browser stores nothing
const listeners = new Set<(theme: Theme) => void>();
const dark = matchMedia("(prefers-color-scheme: dark)");

/** The theme in force. */
export function theme(): Theme {
  const kept = remembered(KEY) ?? chosen;
  if (kept === "dark" || kept === "light") return kept;
  return dark.matches ? "dark" : "light";
}

/** Put the theme in force, now and whenever the browser's wish changes, or the choice in another tab. */
export function startTheme(): void {
  dark.addEventListener("change", apply);
  addEventListener("storage", ({ key }) => key === KEY && apply());
  apply();
}

export function chooseTheme(choice: Theme): void {
  remember(KEY, choice);
  chosen = choice;
  apply();
}

/** Call `listener` on every change until `signal` aborts. */
export function onTheme(listener: (theme: Theme) => void, signal: AbortSignal): void {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

/** The value of a colour of src/style.css, such as "--up", for canvases. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function apply(): void {
  const inForce = theme();
  document.documentElement.dataset["theme"] = inForce;
  for (const listener of listeners) listener(inForce);
}
