"""Reads the rows of the followed streams ahead of the replay's time, many at once."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from app.domain.interval import DAY_MS, HOUR_MS, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.store import StoreReader
from app.replaying.replay_clock import ReplayClock
from app.replaying.schedule import Schedule

AHEAD_S: Final = 8
"""Machine time that the rows last which are read at once: a read of 600 series takes a second of it or less."""
ROWS_MAX: Final = 120_000  # read at once; a kline in memory takes about 0.7 kB
RETRY_S: Final = 1.0  # between two attempts to read while the database cannot be read; the replay's time stands


class Ahead:
    """The followed streams, as the source of a hub, and the task that reads for them."""

    def __init__(
        self, machine: Clock, clock: ReplayClock, store: StoreReader, ledgers: LedgerCache, schedule: Schedule
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._store = store
        self._ledgers = ledgers
        self._schedule = schedule
        self._wanted = asyncio.Event()
        self._read = asyncio.Event()
        self.trouble: str | None = None
        """Why the database cannot be read; None if it can."""

    def add(self, streams: Iterable[str]) -> None:
        """Follow streams; those of which nothing is stored stay silent."""
        for stream in streams:
            self._schedule.add(stream)
        self._wanted.set()

    def remove(self, streams: Iterable[str]) -> None:
        """Stop following streams."""
        for stream in streams:
            self._schedule.remove(stream)

    def heard_ms(self, stream: str) -> int | None:
        """None: nobody needs to know here whether a stream is alive."""
        return None

    def forget(self, series: Series | None = None) -> None:
        """Read the rows of a series again, or of all."""
        self._schedule.forget(series)
        self._wanted.set()
        self._read.set()

    async def ready(self, close_ms: int) -> None:
        """Return once everything was read for the frames of `close_ms`, or the time was set."""
        jumps = self._clock.jumps
        self._wanted.set()
        while self._clock.jumps == jumps and not self._schedule.is_ready(close_ms):
            self._read.clear()
            await self._read.wait()

    async def run(self) -> None:
        """Read what is wanted, for ever."""
        while True:
            self._wanted.clear()
            reads = self._schedule.reads(self._clock.seen_ms, self._ahead_ms())
            if reads is None:
                await self._wanted.wait()
                continue
            try:
                rows = await self._rows(reads.spans)
            except StoreUnavailable as error:
                self.trouble = str(error)
                await self._machine.sleep(RETRY_S)
                continue
            self.trouble = None
            self._schedule.take(reads, rows, self._clock.seen_ms)
            self._read.set()

    async def _rows(self, spans: Mapping[Series, Span]) -> Mapping[Series, list[Any]]:
        held = {series: span for series, span in spans.items() if self._ledgers.ledger(series).held.clip(span)}
        return await self._store.read_spans(held) if held else {}

    def _ahead_ms(self) -> int:
        """How far to read: AHEAD_S at the present speed, an hour at least and a day at most, within ROWS_MAX."""
        wanted_ms = min(DAY_MS, max(HOUR_MS, self._clock.speed * AHEAD_S * 1_000))
        room_ms = ROWS_MAX // max(1, self._schedule.series) * MINUTE_MS
        return max(2 * MINUTE_MS, min(wanted_ms, room_ms))
