/** The languages, which of them is chosen, and numbers and times in it. */

export type Language = "en" | "zh";
export const LANGUAGES: readonly Language[] = ["en", "zh"];

/** The words of a module: a key that a language lacks fails the build. */
export type Dictionary<Words> = Record<Language, Words>;

const KEY = "klinenode.language";
const TAGS: Record<Language, string> = { en: "en-GB", zh: "zh-CN" };

/** The language that was chosen here before, else that of the browser. */
export function chosenLanguage(): Language {
  const kept = remembered(KEY);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

export function chooseLanguage(language: Language): void {
  remember(KEY, language);
}

/** A number with separators of thousands. */
export function count(language: Language, value: number, digits = 0): string {
  return value.toLocaleString(TAGS[language], { maximumFractionDigits: digits });
}

/** A share of 1 in percent; only a whole share is shown as 100 %. */
export function percent(language: Language, share: number): string {
  const shown = share < 1 ? Math.min(share, 0.9999) : share;
  return shown.toLocaleString(TAGS[language], { style: "percent", maximumFractionDigits: 2 });
}

/** A moment (ms) in UTC, as 2026-11-30 14:05:09. */
export function moment(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 19).replace("T", " ");
}

/** The UTC day (ms) as 2026-11-30. */
export function day(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}

/** A length of time (ms) in its two largest units, as "3 h 5 min". */
export function duration(language: Language, lengthMs: number): string {
  const units = UNITS[language];
  if (lengthMs < 1000) return `${Math.round(lengthMs)} ${units[0]}`;
  let rest = Math.floor(lengthMs / 1000);
  const parts: string[] = [];
  for (const [seconds, unit] of [[86_400, units[4]], [3_600, units[3]], [60, units[2]], [1, units[1]]] as const) {
    if (rest >= seconds && parts.length < 2) parts.push(`${Math.floor(rest / seconds)} ${unit}`);
    rest %= seconds;
  }
  return parts.join(" ");
}

const UNITS = { en: ["ms", "s", "min", "h", "d"], zh: ["毫秒", "秒", "分", "小时", "天"] } as const;

/** What was remembered under a key; null where the browser stores nothing. Never a token. */
export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage may be forbidden; the choice then lasts until the page is loaded again
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    return; // as above
  }
}
