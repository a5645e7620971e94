/** Repeats a request while the page is visible, and not before the answer to the one before. */

/** Call `ask` at once and `everyMs` after each answer, only while the document is visible, until `signal` aborts.
 * `failed` gets what `ask` throws; the next call is made all the same. Returns a function that asks at once, or as soon
 * as the answer that is under way has come: what was asked for since may differ. */
export function poll(
  ask: (signal: AbortSignal) => Promise<void>,
  everyMs: number,
  signal: AbortSignal,
  failed: (error: unknown) => void,
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isAsking = false;
  let isWanted = false;

  async function round(): Promise<void> {
    clearTimeout(timer);
    isWanted = true;
    if (isAsking) return;
    isAsking = true;
    while (isWanted && !signal.aborted) {
      isWanted = false;
      try {
        await ask(signal);
      } catch (error) {
        if (!signal.aborted) failed(error);
      }
    }
    isAsking = false;
    if (!signal.aborted && document.visibilityState === "visible") timer = setTimeout(() => void round(), everyMs);
  }

  const onVisible = (): void => {
    if (document.visibilityState === "visible") void round();
  };
  document.addEventListener("visibilitychange", onVisible);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisible);
  });
  void round();
  return () => void round();
}
