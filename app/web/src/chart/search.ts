/** The search for a symbol: a text field with a list of matches, for mouse, touch and keyboard. */

import { html, show } from "../dom";
import type { ChartWords } from "./words";

const SHOWN_MAX = 12; // matches; whoever sees more types on

export interface Search {
  element: HTMLElement;
  focus(): void;
}

/** `symbols` is asked for the names once, when somebody first searches; `chosen` gets the one that is picked. */
export function searchOf(
  words: ChartWords, shown: string, symbols: () => Promise<string[]>, chosen: (symbol: string) => void,
): Search {
  let symbol = shown;
  let names: Promise<string[]> | null = null;
  let matches: string[] = [];
  let active = 0;
  const input = html("input", {
    id: "chart-symbol", type: "text", value: symbol, autocomplete: "off", spellcheck: "false", maxlength: 40,
    role: "combobox", "aria-expanded": "false", "aria-controls": "chart-symbols", "aria-autocomplete": "list",
    placeholder: words.symbolHint,
  });
  const list = html("ul", { id: "chart-symbols", role: "listbox", "aria-label": words.symbol, hidden: true });

  async function look(): Promise<void> {
    names ??= symbols();
    const all = await names.catch(() => {
      names = null; // ask again at the next key
      return [] as string[];
    });
    const text = input.value.trim().toUpperCase();
    const rank = (name: string): number => (name === text ? 0 : name.startsWith(text) ? 1 : 2);
    matches = all.filter((name) => name.includes(text)).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
    matches = matches.slice(0, SHOWN_MAX);
    active = 0;
    draw(true);
  }

  function draw(isOpen: boolean): void {
    const isShown = isOpen && document.activeElement === input;
    list.hidden = !isShown;
    input.setAttribute("aria-expanded", String(isShown));
    if (!isShown || matches.length === 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `chart-symbol-${active}`);
    const options = matches.map((name, index) =>
      html(
        "li",
        {
          id: `chart-symbol-${index}`, role: "option", "aria-selected": index === active ? "true" : "false",
          onpointerdown: (event) => {
            event.preventDefault(); // before the field loses the focus
            pick(name);
          },
        },
        name,
      ),
    );
    show(list, ...(options.length > 0 ? options : [html("li", { role: "option", "aria-disabled": "true" }, words.noSymbol)]));
  }

  function pick(name: string | undefined): void {
    if (name === undefined) return;
    input.value = symbol = name;
    draw(false);
    input.blur();
    chosen(name);
  }

  input.addEventListener("focus", () => {
    input.select();
    void look();
  });
  input.addEventListener("input", () => void look());
  input.addEventListener("blur", () => draw(false));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const by = event.key === "ArrowDown" ? 1 : -1;
      active = matches.length === 0 ? 0 : (active + by + matches.length) % matches.length;
      draw(true);
    } else if (event.key === "Enter") pick(matches[active]);
    else if (event.key === "Escape") {
      input.value = symbol;
      input.blur();
    } else return;
    event.preventDefault();
  });
  const label = html("label", { for: "chart-symbol", class: "quiet" }, words.symbol);
  return { element: html("div", { class: "search" }, label, input, list), focus: () => input.focus() };
}
