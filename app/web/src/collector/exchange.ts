/** The card of one exchange of the collector. */

import type { CollectedExchange } from "../answers";
import { html } from "../dom";
import { count, duration, percent, type Language } from "../language";
import { card, Facts, Table, type Tone } from "../parts";
import type { CollectorWords } from "./words";

const TONES: Partial<Record<string, Tone>> = { following: "good", connecting: "warn", away: "bad" };

export class ExchangeCard {
  readonly element: HTMLElement;
  private readonly facts = new Facts();
  private readonly types: Table;

  constructor(
    name: string,
    private readonly words: CollectorWords,
    private readonly language: Language,
  ) {
    const heads = [words.type, words.feeds, words.processed, words.published, words.errors, words.gaps];
    this.types = new Table(`${name}: ${words.types}`, heads, words.noTypes);
    this.element = card(name, this.facts.element, html("h3", {}, words.types), this.types.element);
    this.element.classList.add("wide");
  }

  /** Show how the exchange is now. */
  update(exchange: CollectedExchange): void {
    const { words, facts } = this;
    const number = (value: number): string => count(this.language, value);
    const { books_valid: valid, books_followed: followed, levels_compared: compared } = exchange;
    facts.set(words.state, words.states[exchange.state] ?? exchange.state, TONES[exchange.state] ?? "plain");
    facts.set(words.sockets, number(exchange.sockets_active));
    facts.set(words.books, words.of(number(valid), number(followed)), valid < followed ? "warn" : "plain");
    facts.set(words.levels, compared ? percent(this.language, exchange.levels_equal / compared) : words.unknown);
    facts.set(words.gaps, number(exchange.gaps_open), exchange.gaps_open ? "warn" : "good");
    const lags = [exchange.lag_p50_ms, exchange.lag_p99_ms].filter((lag) => lag !== null);
    facts.set(words.lag, lags.map((lag) => duration(this.language, lag)).join(" / ") || words.unknown);
    this.types.rows(
      Object.entries(exchange.types).map(([type, each]) => [
        type,
        ...[each.feeds, each.processed, each.published, each.errors, each.gaps_open].map(number),
      ]),
    );
  }
}
