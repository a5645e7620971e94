"""Keeps old rows as sealed blocks, and finds damaged blocks.

The store decides what can be sealed and how; this decides when, and how much of the writer's time it may take.
"""

import asyncio
from contextlib import suppress
from typing import Final

from app.domain.block_grid import is_sealable
from app.domain.series import Series
from app.domain.span import Span
from app.events import BlockGivenUp, BlocksChecked, Observe, RowsSealed, SealingProgress
from app.holding.commit import Committer
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import StoreDamaged, StoreUnavailable
from app.ports.store import StoreWriter

PASS_EVERY_S: Final = (
    600.0  # between two looks for rows that have become old enough: a day of minutes does so once a day
)
SHARE: Final = 0.25
"""Of the writer's time while there is anything to seal. A block takes some 15 ms, and commits wait for one at most."""
PAUSE_S_MIN: Final = 0.01
PROGRESS_EVERY_MS: Final = 10_000
CHECK_EVERY_S: Final = 20.0
RETRY_S: Final = 5.0  # while the database cannot be written
CHECKED_AT_ONCE: Final = 64  # blocks; a year of 600 symbols × 7 intervals has 350,000, which takes 30 hours


class DamagedBlocks:
    """Damaged blocks that reads have met, each once."""

    def __init__(self) -> None:
        self._errors: dict[tuple[Series, Span], StoreDamaged] = {}
        self._is_any = asyncio.Event()

    def add(self, error: StoreDamaged) -> None:
        """Add a block."""
        self._errors[error.series, error.span] = error
        self._is_any.set()

    async def next(self) -> StoreDamaged:
        """Take one out; waits for it."""
        await self._is_any.wait()
        error = self._errors.pop(next(iter(self._errors)))
        if not self._errors:
            self._is_any.clear()
        return error


class Sealer:
    """Seals rows that are `after_ms` old, checks blocks on a rolling sample, and gives up damaged ones."""

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        store: StoreWriter,
        ledgers: LedgerCache,
        committer: Committer,
        after_ms: int,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._store = store
        self._ledgers = ledgers
        self._committer = committer
        self._after_ms = after_ms
        self._damaged = DamagedBlocks()

    async def seal(self) -> None:
        """Seal for ever what becomes old enough. While the database cannot be written, it is tried again later."""
        while True:
            with suppress(StoreUnavailable):
                await self.seal_all()
            await self._clock.sleep(PASS_EVERY_S)

    async def check(self) -> None:
        """Compare blocks with their SHA-256 for ever, all of them in turn."""
        last = 0
        while True:
            await self._clock.sleep(CHECK_EVERY_S)
            try:
                result = await self._store.check_blocks(last, CHECKED_AT_ONCE)
            except StoreUnavailable:
                continue
            last = result.last
            if result.blocks:
                self._observe(BlocksChecked(result.blocks))
            for error in result.damaged:
                self.report(error)

    async def repair(self) -> None:
        """Give up damaged blocks for ever; the reconciler fetches their rows again."""
        while True:
            error = await self._damaged.next()
            try:
                is_given_up = await self._committer.give_up(error.series, error.span)
            except StoreUnavailable:
                self.report(error)
                await self._clock.sleep(RETRY_S)
                continue
            if is_given_up:
                self._observe(BlockGivenUp(error.series.name, error.series.interval.code, error.span, str(error)))

    def report(self, error: StoreDamaged) -> None:
        """A read found a damaged block: it is given up, and its rows are fetched again."""
        self._damaged.add(error)

    async def seal_all(self) -> None:
        """Seal every whole block that is old enough. Raises StoreUnavailable."""
        told_ms = self._clock.now_ms()
        before_ms, rows = told_ms - self._after_ms, 0
        found = [series for series in self._ledgers.all() if is_sealable(*series.table)]
        for number, series in enumerate(found):
            next_ms: int | None = 0
            while next_ms is not None:
                began_ms = self._clock.now_ms()
                step = await self._store.seal(series, Span(next_ms, before_ms))
                next_ms = step.next_ms
                if step.rows:
                    rows += step.rows
                    self._observe(RowsSealed(series.name, series.interval.code, step.rows, step.body_bytes))
                    if self._clock.now_ms() - told_ms >= PROGRESS_EVERY_MS:
                        self._observe(SealingProgress(number, len(found), rows))
                        told_ms = self._clock.now_ms()
                took_s = max(0, self._clock.now_ms() - began_ms) / 1000
                await self._clock.sleep(max(PAUSE_S_MIN, took_s * (1 / SHARE - 1)))
