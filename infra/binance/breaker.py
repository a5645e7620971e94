"""While the exchange does not answer: one probe at a time after growing pauses, and no other request."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

from app.binance.rate_state import PAUSE_MS_MAX, RateState
from app.domain.backoff import full_jitter_s
from app.events import ExchangeSilent, Observe
from app.ports.clock import Clock
from app.ports.coordination import RateStateKeeper
from app.ports.errors import UpstreamAway, UpstreamError

PAUSE_S_FIRST: Final = 1.0
WATCH_S: Final = 1.0  # between two checks whether a probe is due: failures in any process may make it due
PROBE_MS: Final = 2_000  # a request that is refused while a probe is under way may be tried again after this long
PROBE_MS_MAX: Final = 20_000  # connecting and reading take at most 15 s; after this the probing process counts as dead

Probe = Callable[[], Awaitable[object]]
"""Sends one light request to the exchange, without retries; raises UpstreamError."""


class Breaker:
    """Decides when the exchange counts as silent, and probes it on behalf of all processes."""

    def __init__(self, clock: Clock, observe: Observe, keeper: RateStateKeeper, seed: int = 0) -> None:
        self._clock = clock
        self._observe = observe
        self._keeper = keeper
        self._chance = Random(f"{seed}:breaker")  # noqa: S311  spreads probes, guards nothing
        self._is_probing = False
        self._is_new = True

    def unanswered(self, state: RateState, reason: str) -> ExchangeSilent | None:
        """Count a request without an answer; returns the event to report if the exchange counts as silent from now.

        A process that starts while the exchange is silent reports that with its first unanswered request.
        """
        was_silent = state.is_silent
        state.failures += 1
        state.silence = f"{reason:.200}"
        is_first, self._is_new = self._is_new, False
        if state.is_silent and not was_silent:
            self._put_off(state)
        elif not (was_silent and is_first):
            return None
        return ExchangeSilent(state.failures, state.silence)

    async def run(self, probe: Probe) -> None:
        """Probe the exchange whenever it is silent; never returns."""
        while True:
            await self._clock.sleep(WATCH_S)
            try:
                await self._keeper.update(self._take_turn)
                if self._is_probing:
                    with suppress(UpstreamError):  # the budget has counted it
                        await probe()
            finally:  # also when this task is cancelled: another process may probe then
                if self._is_probing:
                    await self._keeper.update(self._end_turn)

    def _take_turn(self, state: RateState) -> None:
        now_ms = self._clock.now_ms()
        is_taken = 0 < state.probe_ms - now_ms <= PROBE_MS_MAX
        if not state.is_silent or is_taken or now_ms < state.until_ms or not state.is_probe_due(now_ms):
            return
        state.probe_ms = now_ms + PROBE_MS_MAX
        self._is_probing = True

    def _end_turn(self, state: RateState) -> None:
        self._is_probing = False
        if state.is_silent:
            self._put_off(state)

    def _put_off(self, state: RateState) -> None:
        state.probes += 1
        pause_s = full_jitter_s(self._chance, state.probes, PAUSE_S_FIRST, PAUSE_MS_MAX / 1_000)
        state.retry_ms = self._clock.now_ms() + round(pause_s * 1_000)
        state.probe_ms = 0


def away(state: RateState, now_ms: int) -> UpstreamAway | None:
    """Return the error to raise while the exchange is silent, else None."""
    if not state.is_silent:
        return None
    reason = f"the exchange has not answered {state.failures} times in a row, it is probed until it does"
    due_ms = now_ms + PROBE_MS if state.is_probe_due(now_ms) else state.retry_ms
    return UpstreamAway(due_ms, f"{reason} ({state.silence})")
