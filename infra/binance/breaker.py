"""What is done while the exchange does not answer: one probe at a time, after growing pauses, and nothing else."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

from app.domain.backoff import full_jitter_s
from app.events import ExchangeSilent, Observe
from app.ports.clock import Clock
from app.ports.errors import UpstreamError
from infra.binance.rate_state import PAUSE_MS_MAX, RateState, RateStateKeeper

PAUSE_S_FIRST: Final = 1.0
WATCH_S: Final = 1.0  # how often a process looks whether a probe is due: another one's failures may have called for it
PROBE_MS_MAX: Final = 20_000  # connecting and reading take 15 s at the most; whose probe lasts longer has died with it

Probe = Callable[[], Awaitable[object]]
"""Asks the exchange something light, once; raises UpstreamError."""


class Breaker:
    """Decides when the silence of the exchange has lasted long enough, and probes it for all processes together."""

    def __init__(self, clock: Clock, observe: Observe, keeper: RateStateKeeper, seed: int = 0) -> None:
        self._clock = clock
        self._observe = observe
        self._keeper = keeper
        self._chance = Random(f"{seed}:breaker")  # noqa: S311  spreads probes, guards nothing

    def unanswered(self, state: RateState, reason: str) -> ExchangeSilent | None:
        """A request got no answer; returns the event when that was one too many."""
        was_silent = state.is_silent
        state.failures += 1
        state.silence = f"{reason:.200}"
        if was_silent or not state.is_silent:
            return None
        self._put_off(state)
        return ExchangeSilent(state.failures, state.silence)

    async def run(self, probe: Probe) -> None:
        """Probe the exchange whenever it is silent, for ever."""
        while True:
            await self._clock.sleep(WATCH_S)
            if not self._take_turn():
                continue
            try:
                with suppress(UpstreamError):  # the budget has taken note of it
                    await probe()
            finally:  # also when we are stopped: another process may take its turn
                with self._keeper as state:
                    if state.is_silent:
                        self._put_off(state)

    def _take_turn(self) -> bool:
        with self._keeper as state:
            now_ms = self._clock.now_ms()
            is_taken = 0 < state.probe_ms - now_ms <= PROBE_MS_MAX
            if not state.is_silent or is_taken or now_ms < state.until_ms or not state.is_probe_due(now_ms):
                return False
            state.probe_ms = now_ms + PROBE_MS_MAX
            return True

    def _put_off(self, state: RateState) -> None:
        state.probes += 1
        pause_s = full_jitter_s(self._chance, state.probes, PAUSE_S_FIRST, PAUSE_MS_MAX / 1_000)
        state.retry_ms = self._clock.now_ms() + round(pause_s * 1_000)
        state.probe_ms = 0
