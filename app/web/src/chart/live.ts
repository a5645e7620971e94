/** Klines in progress: from the node's own socket, which is opened again whenever it ends, or by polling. */

import type { Api } from "../api";
import type { LiveBar } from "./bars";

export type LiveState = "connecting" | "live" | "polling" | "waiting";

export interface LiveListener {
  bar(bar: LiveBar): void;
  state(state: LiveState): void;
  /** Frames may have been missed: fetch what has closed since. */
  missed(): void;
}

const WAIT_MS_MIN = 500;
const WAIT_MS_MAX = 15_000; // a node that restarts is found again soon, and is not hammered by many pages
const SILENT_MS_MAX = 60_000; // a market that trades sends several frames a second
const POLL_MS = 2_000; // as long as the node itself keeps an answer with a kline in progress

interface Frame {
  data?: { e?: string; E?: number; k?: FrameKline };
}
interface FrameKline {
  t: number;
  o: string;
  h: string;
  l: string;
  c: string;
  v: string;
  x: boolean;
}

/** Follow a stream such as `btcusdt@kline_1m` until `signal` aborts. */
export function followStream(api: Api, stream: string, listener: LiveListener, signal: AbortSignal): void {
  let failures = 0;
  let socket: WebSocket | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function connect(): void {
    if (signal.aborted) return;
    listener.state("connecting");
    const mine = (socket = new WebSocket(api.socket("stream", { streams: stream })));
    let isFirst = true;
    watch();
    mine.onmessage = (event) => {
      const bar = barOf(String(event.data));
      if (bar === null || signal.aborted) return;
      watch();
      if (isFirst) {
        isFirst = false;
        failures = 0; // reset by the first useful frame: a handshake alone proves nothing
        listener.state("live");
        listener.missed();
      }
      listener.bar(bar);
    };
    mine.onclose = () => {
      if (signal.aborted || socket !== mine) return;
      clearTimeout(timer);
      listener.state("waiting");
      const most = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** failures);
      failures += 1;
      timer = setTimeout(connect, most * (0.5 + Math.random() / 2)); // pages of one node must not come back as one
    };
  }

  function watch(): void {
    clearTimeout(timer);
    timer = setTimeout(() => socket?.close(), SILENT_MS_MAX);
  }

  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    const last = socket;
    // a socket closed before it is open is an error in the browser's log
    if (last?.readyState === WebSocket.CONNECTING) last.onopen = () => last.close();
    else last?.close();
  });
  connect();
}

/** Ask for the newest rows every POLL_MS while the page is visible, for what has no stream. */
export function followRows(
  ask: () => Promise<LiveBar[]>,
  listener: LiveListener,
  signal: AbortSignal,
): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  async function round(): Promise<void> {
    try {
      if (document.visibilityState === "visible") {
        const bars = await ask();
        if (signal.aborted) return;
        listener.state("polling");
        for (const bar of bars) listener.bar(bar);
      }
    } catch {
      if (signal.aborted) return;
      listener.state("waiting");
    }
    timer = setTimeout(() => void round(), POLL_MS);
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  listener.state("connecting");
  void round();
}

/** The kline of a frame; null if it is something else. */
export function barOf(text: string): LiveBar | null {
  let frame: Frame;
  try {
    frame = JSON.parse(text) as Frame;
  } catch {
    return null;
  }
  const kline = frame.data?.k;
  if (frame.data?.e !== "kline" || kline === undefined) return null;
  const texts = { open: kline.o, high: kline.h, low: kline.l, close: kline.c, volume: kline.v };
  return { time: kline.t, eventMs: frame.data.E ?? 0, isFinal: kline.x, texts };
}
