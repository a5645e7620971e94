"""What is done while the exchange does not answer: one probe at a time, after growing pauses, and nothing else."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

from app.events import ExchangeSilent, Observe
from app.ports.clock import Clock
from app.ports.errors import UpstreamError
from infra.binance.standing import PAUSE_MS_MAX, Standing, StandingKeeper
from infra.binance.waiting import full_jitter_s

PAUSE_S_FIRST: Final = 1.0
WATCH_S: Final = 1.0  # how often a process looks whether a probe is due: another one's failures may have called for it
PROBE_MS_MAX: Final = 20_000  # connecting and reading take 15 s at the most; whose probe lasts longer has died with it

Probe = Callable[[], Awaitable[object]]
"""Asks the exchange something light, once; raises UpstreamError."""


class Breaker:
    """Decides when the silence of the exchange has lasted long enough, and probes it for all processes together."""

    def __init__(self, clock: Clock, observe: Observe, keeper: StandingKeeper, seed: int = 0) -> None:
        self._clock = clock
        self._observe = observe
        self._keeper = keeper
        self._chance = Random(f"{seed}:breaker")  # noqa: S311  spreads probes, guards nothing

    def unanswered(self, standing: Standing, reason: str) -> ExchangeSilent | None:
        """A request got no answer; returns the event when that was one too many."""
        was_silent = standing.is_silent
        standing.failures += 1
        standing.silence = f"{reason:.200}"
        if was_silent or not standing.is_silent:
            return None
        self._put_off(standing)
        return ExchangeSilent(standing.failures, standing.silence)

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
                with self._keeper as standing:
                    if standing.is_silent:
                        self._put_off(standing)

    def _take_turn(self) -> bool:
        with self._keeper as standing:
            now_ms = self._clock.now_ms()
            is_taken = 0 < standing.probe_ms - now_ms <= PROBE_MS_MAX
            if not standing.is_silent or is_taken or now_ms < standing.until_ms or not standing.is_probe_due(now_ms):
                return False
            standing.probe_ms = now_ms + PROBE_MS_MAX
            return True

    def _put_off(self, standing: Standing) -> None:
        standing.probes += 1
        pause_s = full_jitter_s(self._chance, standing.probes, PAUSE_S_FIRST, PAUSE_MS_MAX / 1_000)
        standing.retry_ms = self._clock.now_ms() + round(pause_s * 1_000)
        standing.probe_ms = 0
