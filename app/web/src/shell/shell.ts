/** The frame around all pages: navigation, theme, language, shortcuts, and the page that the address names. */

import { createApi } from "../api";
import { askForSecret } from "../dialog";
import { html, show } from "../dom";
import { chooseLanguage, chosenLanguage, type Language } from "../language";
import type { Context, Mount, Page, Shortcut } from "../page";
import { keep, link, place } from "../router";
import { chooseTheme, onTheme, startTheme, theme } from "../theme";
import { listenToKeys, showShortcuts } from "./keyboard";
import { shellWords } from "./words";

type Name = "overview" | "coverage" | "chart" | "collector";

interface Entry {
  key: string;
  load: () => Promise<Mount>;
}

/** The pages in the order of the navigation; each is a file of its own, loaded when it is first shown. */
const PAGES: Record<Name, Entry> = {
  overview: { key: "1", load: async () => (await import("../overview/page")).overviewPage },
  coverage: { key: "2", load: async () => (await import("../coverage/page")).coveragePage },
  chart: { key: "3", load: async () => (await import("../chart/page")).chartPage },
  collector: { key: "4", load: async () => (await import("../collector/page")).collectorPage },
};
const NAMES = Object.keys(PAGES) as Name[];
const FRONT: Name = "overview";

/** Build the frame in `root`, and show pages as the address changes. */
export function startShell(root: HTMLElement): void {
  let language = chosenLanguage();
  let shown: { page: Page | null; ending: AbortController; shortcuts: Shortcut[] } | null = null;
  const said = html("div", { class: "said", role: "status" });
  let needsKey = false;
  const api = createApi((message) => {
    const words = shellWords[language];
    needsKey = true;
    root.querySelector(".key")?.removeAttribute("hidden");
    return askForSecret({
      title: words.keyTitle,
      why: words.keyWhy(message),
      label: words.keyLabel,
      send: words.send,
      cancel: words.cancel,
    });
  });

  const changeTheme = (): void => chooseTheme(theme() === "dark" ? "light" : "dark");
  const changeLanguage = (): void => {
    language = language === "en" ? "zh" : "en";
    chooseLanguage(language);
    const focused = headerStops().indexOf(document.activeElement as HTMLElement);
    build();
    headerStops()[focused]?.focus(); // whoever pressed the button by keyboard stays on it
  };
  const headerStops = (): HTMLElement[] => [...root.querySelectorAll<HTMLElement>("header a, header button")];

  function shortcuts(): Shortcut[] {
    const words = shellWords[language];
    return [
      ...NAMES.map((name) => ({
        key: PAGES[name].key,
        what: words.goTo(words[name]),
        act: () => (location.hash = link(name)),
      })),
      { key: "t", what: words.changeTheme, act: changeTheme },
      { key: "l", what: words.languageName, act: changeLanguage },
      { key: "?", what: words.thisList, act: openShortcuts },
      ...(shown?.shortcuts ?? []),
    ];
  }

  function openShortcuts(): void {
    const words = shellWords[language];
    showShortcuts(words.shortcutsTitle, words.close, shortcuts());
  }

  function enterKey(): void {
    void api.askForKey(shellWords[language].keyAgain).then(build);
  }

  function build(): void {
    document.documentElement.lang = language === "en" ? "en" : "zh-CN";
    const main = html("main", { id: "content", tabindex: "-1" });
    show(root, ...frame(language, main, said, { changeTheme, changeLanguage, openShortcuts, enterKey }));
    root.querySelector(".key")?.toggleAttribute("hidden", !needsKey);
    void mount(main);
  }

  async function mount(main: HTMLElement): Promise<void> {
    const words = shellWords[language];
    const { page, parameters } = place();
    const name = page === "" ? FRONT : NAMES.find((each) => each === page);
    shown?.ending.abort();
    shown?.page?.leave();
    const ending = new AbortController();
    const mine = (shown = { page: null as Page | null, ending, shortcuts: [] as Shortcut[] });
    mark(root, name ?? "");
    if (name === undefined) return show(main, html("p", {}, words.noPage));
    document.title = `${words[name]} · klinenode`;
    show(main, html("p", { class: "quiet" }, words.loading));
    let mountPage: Mount;
    try {
      mountPage = await PAGES[name].load();
    } catch {
      return show(main, html("p", { class: "fault", role: "alert" }, words.failed));
    }
    if (ending.signal.aborted) return;
    show(main, html("h1", {}, words[name]));
    const body = html("div", { class: `page ${name}` });
    main.append(body);
    const context: Context = {
      api,
      language,
      theme,
      onTheme: (listener) => onTheme(listener, ending.signal),
      parameters,
      keep,
      go: (to, query) => (location.hash = link(to, query)),
      signal: ending.signal,
      announce: (text) => (said.textContent = text),
      shortcut: (each) => mine.shortcuts.push(each),
    };
    mine.page = mountPage(body, context);
  }

  startTheme();
  listenToKeys(shortcuts);
  addEventListener("hashchange", () => {
    const main = root.querySelector("main");
    if (main === null || location.hash === "#content") return;
    void mount(main).then(() => main.focus({ preventScroll: true }));
  });
  build();
}

interface Acts {
  changeTheme: () => void;
  changeLanguage: () => void;
  openShortcuts: () => void;
  enterKey: () => void;
}

function frame(language: Language, main: HTMLElement, said: HTMLElement, acts: Acts): HTMLElement[] {
  const words = shellWords[language];
  const links = NAMES.map((name) =>
    html("li", {}, html("a", { href: link(name), "data-page": name }, words[name])),
  );
  const skip = (event: Event): void => {
    event.preventDefault(); // the address names a page, not a place on it
    main.focus();
  };
  return [
    html("a", { class: "skip", href: "#content", onclick: skip }, words.skip),
    html(
      "header",
      {},
      html("span", { class: "brand" }, "klinenode"),
      html("nav", { "aria-label": words.pages }, html("ul", {}, ...links)),
      html(
        "div",
        { class: "tools" },
        html("button", { type: "button", class: "key", hidden: true, onclick: acts.enterKey }, words.keyTitle),
        html("a", { href: "docs" }, words.api),
        html("button", { type: "button", onclick: acts.openShortcuts, title: "?" }, words.shortcuts),
        html("button", { type: "button", onclick: acts.changeTheme, "aria-label": words.theme, title: words.theme }, "◐"),
        html("button", { type: "button", onclick: acts.changeLanguage, title: words.languageName }, words.language),
      ),
    ),
    main,
    said,
  ];
}

function mark(root: HTMLElement, page: string): void {
  for (const each of root.querySelectorAll<HTMLElement>("nav a")) {
    if (each.dataset["page"] === page) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}
