/** Keyboard shortcuts: which there are, the dialog that lists them, and how a key finds its action. */

import { showDialog } from "../dialog";
import { html } from "../dom";
import type { Shortcut } from "../page";

const TYPING = "input, textarea, select, dialog, [contenteditable]";

/** Acts on keys by `shortcuts()`, except while somebody types or a dialog is open. */
export function listenToKeys(shortcuts: () => readonly Shortcut[]): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (event.target instanceof Element && event.target.closest(TYPING)) return;
    const found = shortcuts().find((shortcut) => shortcut.key === event.key);
    if (found === undefined) return;
    event.preventDefault();
    found.act();
  });
}

export function showShortcuts(title: string, close: string, shortcuts: readonly Shortcut[]): void {
  const rows = shortcuts.map(({ key, what }) =>
    html("tr", {}, html("th", { scope: "row" }, html("kbd", {}, key)), html("td", {}, what)),
  );
  showDialog(title, close, html("table", { class: "shortcuts" }, html("tbody", {}, ...rows)));
}
