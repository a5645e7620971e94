/** What an operator may ask the node to do: each action is a dialog that takes the token for its one request. */

import { ApiError, type Api } from "../api";
import { openDialog, showDialog } from "../dialog";
import { html } from "../dom";
import { day, type Language } from "../language";
import { adminWords } from "./words";

const DAY_MS = 86_400_000;
const INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];

/** The buttons of all actions. */
export function adminActions(api: Api, language: Language): HTMLElement {
  const words = adminWords[language];
  const button = (label: string, act: () => void): HTMLElement =>
    html("button", { type: "button", onclick: act }, label);
  return html(
    "div",
    {},
    html("p", { class: "quiet" }, words.intro),
    html(
      "div",
      { class: "row" },
      button(words.refresh, () => refresh(api, language)),
      button(words.backfill, () => ofSpan(api, language, words.backfill, "v1/admin/backfill")),
      button(words.verify, () => ofSpan(api, language, words.verify, "v1/admin/verify")),
    ),
  );
}

function refresh(api: Api, language: Language): void {
  const words = adminWords[language];
  ask(language, words.refresh, [], async (token) => {
    const { added, removed } = await api.admin<{ added: string[]; removed: string[] }>(
      "POST",
      "v1/admin/symbols/refresh",
      token,
    );
    return added.length + removed.length ? words.changed(added.join(", "), removed.join(", ")) : words.nothingNew;
  });
}

function ofSpan(api: Api, language: Language, title: string, path: string): void {
  const words = adminWords[language];
  const symbols = html("input", { id: "symbols", required: true, spellcheck: "false", autocapitalize: "characters" });
  const intervals = html(
    "select",
    { id: "intervals", multiple: true, required: true, size: 4 },
    ...INTERVALS.map((code) => html("option", { selected: code === "1m" }, code)),
  );
  const today = Date.now();
  const start = html("input", { id: "start", type: "date", required: true, value: day(today - 30 * DAY_MS) });
  const end = html("input", { id: "end", type: "date", required: true, value: day(today) });
  const fields = [
    html("label", { for: "symbols" }, words.symbols),
    symbols,
    html("label", { for: "intervals" }, words.intervals),
    intervals,
    html("label", { for: "start" }, words.start),
    start,
    html("label", { for: "end" }, words.end),
    end,
  ];
  ask(language, title.replace("…", ""), fields, async (token) => {
    const body = {
      symbols: symbols.value.split(/[\s,，]+/).filter(Boolean),
      intervals: [...intervals.selectedOptions].map((option) => option.value),
      start: `${start.value}T00:00:00Z`,
      end: `${end.value}T00:00:00Z`,
    };
    await api.admin("POST", path, token, body);
    return words.taken;
  });
}

/** Open a dialog of `fields` and the token; `send` makes the request and says what came of it. */
function ask(
  language: Language,
  title: string,
  fields: HTMLElement[],
  send: (token: string) => Promise<string>,
): void {
  const words = adminWords[language];
  const token = html("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const fault = html("p", { class: "fault", role: "alert" });
  const submit = html("button", { class: "primary" }, words.send);
  const form = html(
    "form",
    {
      onsubmit: (event) => {
        event.preventDefault();
        void submitOnce();
      },
    },
    ...fields,
    html("label", { for: "token" }, words.token),
    token,
    html("p", { class: "quiet" }, words.tokenHelp),
    fault,
    html(
      "div",
      { class: "actions" },
      html("button", { type: "button", onclick: () => dialog.close() }, words.cancel),
      submit,
    ),
  );
  const dialog = html("dialog", { "aria-label": title }, html("h2", {}, title), form);
  async function submitOnce(): Promise<void> {
    submit.disabled = true;
    fault.textContent = words.sending;
    const secret = token.value;
    token.value = "";
    try {
      const said = await send(secret);
      dialog.close();
      showDialog(words.done, words.close, html("p", {}, said));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      fault.textContent = `${words.refused}: ${error.message}`;
      submit.disabled = false;
    }
  }
  openDialog(dialog);
}
