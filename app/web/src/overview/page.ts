/** The overview: how the node is, in one sentence and the numbers behind it, every few seconds. */

import { adminActions } from "../admin/actions";
import { adminWords } from "../admin/words";
import type { Overview } from "../answers";
import { html, setText, show } from "../dom";
import { count, moment } from "../language";
import type { Context, Page } from "../page";
import { card } from "../parts";
import { poll } from "../polling";
import { answersCard, dataCard, exchangeCard, lagCard, liveCard, processCard, slowCard, type Shown } from "./cards";
import { jobsCard } from "./jobs";
import { overviewWords, type OverviewWords } from "./words";
import "./style.css";

const EVERY_MS = 3_000;
const NARROW = [exchangeCard, liveCard, dataCard, lagCard, answersCard, processCard];
const WIDE = [jobsCard, slowCard];

export function overviewPage(place: HTMLElement, context: Context): Page {
  const words = overviewWords[context.language];
  const sentence = html("p", { class: "sentence", role: "status" });
  const reasons = html("ul", { class: "reasons" });
  const fault = html("p", { class: "fault", role: "alert" });
  const [narrow, wide] = [NARROW, WIDE].map((made) => made.map((each) => each(words, context.language)));
  const shown: Shown[] = [...(narrow ?? []), ...(wide ?? [])];
  const grid = html(
    "div",
    { class: "cards" },
    ...(narrow ?? []).map((each) => each.element),
    card(adminWords[context.language].title, adminActions(context.api, context.language)),
    ...(wide ?? []).map((each) => each.element),
  );
  grid.hidden = true;
  place.append(fault, sentence, reasons, grid);
  let asOfMs = 0;

  poll(
    async (signal) => {
      const overview = await context.api.get<Overview>("v1/overview", {}, signal);
      asOfMs = overview.as_of;
      setText(fault, "");
      sentence.className = `sentence ${overview.health.status === "ok" ? "good" : "bad"}`;
      setText(sentence, sentenceOf(overview, words, context));
      showReasons(reasons, overview, words);
      for (const each of shown) each.update(overview);
      grid.hidden = false;
    },
    EVERY_MS,
    context.signal,
    (error) => setText(fault, faultOf(error, asOfMs, words)),
  );
  return { leave: () => undefined };
}

function sentenceOf({ health, ready, numbers }: Overview, words: OverviewWords, context: Context): string {
  if (health.status !== "ok") return words.degraded(words.reasons(health.reasons.length));
  const missing = numbers["klines_missing"] ?? 0;
  if (missing > 0) return words.filling(count(context.language, missing));
  return words.well(count(context.language, ready.series["fresh"] ?? 0));
}

function showReasons(place: HTMLElement, { health }: Overview, words: OverviewWords): void {
  const texts = [...health.reasons, ...health.notes.map((note) => `${words.notes}: ${note}`)];
  if (place.dataset["shown"] === texts.join("\n")) return;
  place.dataset["shown"] = texts.join("\n");
  show(place, ...texts.map((text) => html("li", {}, text)));
}

function faultOf(error: unknown, asOfMs: number, words: OverviewWords): string {
  const message = error instanceof Error ? error.message : String(error);
  return asOfMs ? `${words.unreachable} ${moment(asOfMs)} UTC. ${message}` : message;
}
