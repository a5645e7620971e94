"""Follows what a writer commits to the database meanwhile, so that answers see rows that arrive or are repaired."""

from dataclasses import dataclass
from typing import Final

from app.domain.interval import DAY_MS
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.holding.symbol_sync import DOCUMENT
from app.ports.clock import Clock
from app.ports.coordination import ChangeFeed
from app.ports.errors import StoreUnavailable
from app.ports.store import StoreReader
from app.replaying.ahead import Ahead
from app.replaying.in_progress import UnfinishedThen
from app.replaying.replay_clock import ReplayClock
from app.replaying.symbols import SymbolsThen

MONTH_MS_MAX: Final = 31 * DAY_MS  # the longest kline in progress, of which rows before the replay's time are parts
LOOK_S: Final = 1.0  # between two looks: what is replayed changes by repairs and backfill alone


@dataclass(frozen=True, slots=True)
class Kept:
    """What a replay keeps in memory of the store."""

    ledgers: LedgerCache
    symbols: SymbolsThen
    unfinished: UnfinishedThen
    ahead: Ahead


class StoreFollower:
    """Keeps the ledgers of the replay equal to the store's, and drops what was made of rows that changed."""

    def __init__(
        self,
        machine: Clock,
        clock: ReplayClock,
        store: StoreReader,
        feed: ChangeFeed,
        kept: Kept,
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._store = store
        self._feed = feed
        self._ledgers = kept.ledgers
        self._symbols = kept.symbols
        self._unfinished = kept.unfinished
        self._ahead = kept.ahead
        self._last: int | None = None

    async def look(self) -> None:
        """Apply what was committed since the last look, at first everything. Raises StoreUnavailable."""
        changes = await self._feed.changes(self._last)
        if not changes.is_whole:
            await self._load()
        for series, change in changes.series.items():
            self._ledgers.set_ledger(series, change.ledger)
            self._unfinished.forget(series.name)
            if change.span.clip(Span(self._clock.seen_ms - MONTH_MS_MAX, self._clock.span.end_ms)):
                self._ahead.forget(series)
        self._last = changes.last
        if self._symbols.trouble is not None:
            await self._load_symbols()

    async def run(self) -> None:
        """Look every LOOK_S, for ever."""
        while True:
            await self._feed.wait(self._machine, LOOK_S)
            try:
                await self.look()
            except StoreUnavailable:  # reads report it themselves; the next look that succeeds has all changes
                continue

    async def _load(self) -> None:
        store = self._store
        self._ledgers.load(await store.ledgers(), await store.anchors(), {})
        self._ledgers.set_listings((await store.listings()).values())
        await self._load_symbols()
        self._unfinished.clear()
        self._ahead.forget()

    async def _load_symbols(self) -> None:
        stored = await self._store.document(DOCUMENT)
        self._symbols.load(None if stored is None else stored[0])
