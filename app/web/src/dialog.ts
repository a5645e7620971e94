/** Modal dialogs: of text to read, and of one secret to type, which goes to the caller alone. */

import { html, type Child } from "./dom";

/** Show `content` under a title until it is closed by its button or Escape. */
export function showDialog(title: string, close: string, ...content: Child[]): void {
  const dialog = html("dialog", { "aria-label": title }, html("h2", {}, title), ...content);
  dialog.append(
    html("form", { method: "dialog", class: "actions" }, html("button", { class: "primary" }, close)),
  );
  openDialog(dialog);
}

export interface SecretWords {
  title: string;
  why: string;
  label: string;
  send: string;
  cancel: string;
}

/** Ask for an API key or an admin token; null when the dialog is cancelled. It is never stored, nor offered to be. */
export function askForSecret(words: SecretWords): Promise<string | null> {
  const input = html("input", {
    type: "password",
    id: "secret",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    autofocus: true,
  });
  const cancel = html("button", { type: "button", onclick: () => dialog.close() }, words.cancel);
  const form = html(
    "form",
    { method: "dialog" },
    html("p", {}, words.why),
    html("label", { for: "secret" }, words.label),
    input,
    html("div", { class: "actions" }, cancel, html("button", { value: "send", class: "primary" }, words.send)),
  );
  const dialog = html("dialog", { "aria-label": words.title }, html("h2", {}, words.title), form);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "send" && input.value ? input.value : null);
      input.value = "";
    });
    openDialog(dialog);
  });
}

/** Open a dialog that is removed when it closes; the focus goes back to where it was. */
export function openDialog(dialog: HTMLDialogElement): void {
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
}
