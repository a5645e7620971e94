/** The collector: its exchanges, books, lag and gaps, and what waits for the stream; or that there is none. */

import { ApiError } from "../api";
import type { CollectorStatus, Overview } from "../answers";
import { html, setText, show } from "../dom";
import { count, duration } from "../language";
import type { Context, Page } from "../page";
import { card, Facts } from "../parts";
import { poll } from "../polling";
import { Samples } from "../rates";
import { ExchangeCard } from "./exchange";
import { collectorWords } from "./words";

const EVERY_MS = 3_000;
const RATE_MS = 15_000;
const MB = 1_000_000;

export function collectorPage(place: HTMLElement, context: Context): Page {
  const words = collectorWords[context.language];
  const sentence = html("p", { class: "sentence", role: "status" });
  const how = html("p", { class: "quiet" });
  const faults = html("ul", { class: "reasons" });
  const fault = html("p", { class: "fault", role: "alert" });
  const stream = new Facts();
  const cards = html("div", { class: "cards" });
  const streamCard = card(words.stream, stream.element);
  const exchanges = new Map<string, ExchangeCard>();
  const published = new Samples();
  place.append(fault, sentence, how, faults, cards);

  function showNone(): void {
    setText(sentence, words.none);
    setText(how, words.how);
    show(faults);
    show(cards);
    exchanges.clear();
  }

  function showStatus(status: CollectorStatus): void {
    const names = Object.keys(status.exchanges);
    sentence.className = `sentence ${status.faults.length ? "bad" : "good"}`;
    setText(sentence, status.faults.length ? words.faults : words.well(names.join(", ")));
    setText(how, "");
    show(faults, ...status.faults.map((text) => html("li", {}, text)));
    if (names.join() !== [...exchanges.keys()].join()) {
      exchanges.clear();
      for (const name of names) exchanges.set(name, new ExchangeCard(name, words, context.language));
      show(cards, streamCard, ...[...exchanges.values()].map((each) => each.element));
    }
    showStream(status);
    for (const [name, each] of Object.entries(status.exchanges)) exchanges.get(name)?.update(each);
  }

  function showStream({ collector_metrics: made, outbox, uptime_seconds }: CollectorStatus): void {
    const number = (value: number): string => count(context.language, value);
    published.add(Date.now(), made.messages_published);
    const rate = published.perSecond(RATE_MS);
    stream.set(words.uptime, duration(context.language, uptime_seconds * 1000));
    stream.set(words.processed, number(made.messages_processed));
    stream.set(words.published, number(made.messages_published));
    stream.set(words.rate, rate === null ? "…" : number(rate));
    stream.set(words.waiting, number(outbox.waiting));
    stream.set(words.spilled, `${number(outbox.spilled_bytes / MB)} MB`, outbox.spilled_bytes ? "warn" : "plain");
    stream.set(words.spillUsed, `${number(outbox.spill_used * 100)} %`, outbox.spill_used > 0.5 ? "bad" : "plain");
    stream.set(words.errors, number(made.errors_count), made.errors_count ? "warn" : "plain");
  }

  poll(
    async (signal) => {
      // asked for first: a node without a collector answers its status with an error
      const { health } = await context.api.get<Overview>("v1/overview", {}, signal);
      if (health.collector === null) showNone();
      else showStatus(await context.api.get<CollectorStatus>("api/v1/status", {}, signal));
      setText(fault, "");
    },
    EVERY_MS,
    context.signal,
    (error) => setText(fault, words.failed(error instanceof ApiError ? error.message : String(error))),
  );
  return { leave: () => undefined };
}
