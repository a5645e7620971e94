"""The follower's role: how a process that does not write keeps up with the one that does."""

import contextlib
from typing import Final

from app.domain.interval import MINUTE_MS
from app.parts import Parts
from app.ports import StoreUnavailable

RELOAD_EVERY_S: Final = 5.0  # how often a process that does not write reads the ledger for health and coverage
LEDGER_AGE_MS_MAX: Final = 15_000  # a ledger that could not be read for longer says nothing about now


class Following:
    """Knows what the writer has committed, for health, coverage and the symbols."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._newest_ms = 0

    async def run(self) -> None:
        """Read what the store says, for ever."""
        parts = self._parts
        while True:
            with contextlib.suppress(StoreUnavailable):  # there may be no database yet; reads say so themselves
                await parts.load_for_reading()
                self._learn_time()
                if (standing := await parts.reader.stand_down()) is not None:
                    parts.budget.restore(*standing)
            await parts.clock.sleep(RELOAD_EVERY_S)

    def ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory speaks of: when it was read, if that is not long ago."""
        now_ms, loaded_ms = self._parts.clock.now_ms(), self._parts.loaded_ms
        return loaded_ms if 0 <= now_ms - loaded_ms <= LEDGER_AGE_MS_MAX else now_ms

    def _learn_time(self) -> None:
        """A writer that hears the exchange commits klines as they close: seeing that confirms our clock."""
        clock, ledgers = self._parts.clock, self._parts.holdings.all()
        newest_ms = max((ledger.end_ms for ledger in ledgers.values()), default=0)
        if 0 < self._newest_ms < newest_ms and 0 <= clock.now_ms() - newest_ms < MINUTE_MS:
            clock.confirm()
        self._newest_ms = newest_ms
