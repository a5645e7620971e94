/** What a page of the dashboard is, and what it gets from the shell. */

import type { Api } from "./api";
import type { Language } from "./language";
import type { Theme } from "./theme";

/** A page that is shown. */
export interface Page {
  /** Stop every timer, request and listener: another page is shown, or this one again with other parameters. */
  leave(): void;
}

/** Mounts a page in an empty place. */
export type Mount = (place: HTMLElement, context: Context) => Page;

/** A key that does something on this page; the dialog of shortcuts lists it. */
export interface Shortcut {
  /** `KeyboardEvent.key`, such as "ArrowLeft" or "r". */
  key: string;
  what: string;
  act: () => void;
}

/** What the shell gives a page. Everything that is registered here ends when the page is left. */
export interface Context {
  api: Api;
  language: Language;
  theme: () => Theme;
  /** Call `listener` whenever the theme changes: canvases have to be painted again. */
  onTheme(listener: (theme: Theme) => void): void;
  /** The parameters behind the page's name in the address. */
  parameters: URLSearchParams;
  /** Keep the state of the page in the address, without mounting the page again. */
  keep(parameters: Record<string, string | null>): void;
  /** Go to a page. */
  go(page: string, parameters?: Record<string, string>): void;
  /** Aborted when the page is left. */
  signal: AbortSignal;
  /** Say something to screen readers. */
  announce(text: string): void;
  shortcut(shortcut: Shortcut): void;
}
