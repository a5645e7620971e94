"""The klines in progress that answers show: those of longer intervals, made of the minutes that have closed."""

from typing import Final

from cachetools import LRUCache

from app.domain.interval import M1, Grid
from app.domain.reason import Reason
from app.domain.rollup import Bucket
from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.ports.errors import UpstreamUnavailable
from app.ports.store import StoreReader
from app.replaying.replay_clock import SeenClock
from app.replaying.unfinished import parts_of, rolled, rolls_up

UNFINISHED_MAX: Final = 1_024  # klines in progress that the next request extends by the minutes since; 1 kB each


class UnfinishedThen:
    """The klines in progress of the replay's time, made of closed minutes; implements app.querying's Unfinished.

    Minutes, and kinds that do not roll up, have none: an answer ends with the newest closed kline.
    """

    def __init__(self, clock: SeenClock, store: StoreReader, ledgers: LedgerCache) -> None:
        self._clock = clock
        self._store = store
        self._ledgers = ledgers
        self._made: LRUCache[Series, Bucket] = LRUCache(UNFINISHED_MAX)

    def forget(self, name: str) -> None:
        """Make the klines in progress of the series called `name` again: rows of them have changed."""
        for series in [each for each in self._made if each.name == name]:
            del self._made[series]

    def clear(self) -> None:
        """Make all klines in progress again."""
        self._made.clear()

    def known(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The kline in progress if it was made at this time before; None otherwise."""
        if not rolls_up(series):
            return []
        made = self._made.get(series)
        if made is None or (made.open_ms, made.next_ms) != (open_ms, self._clock.seen_ms):
            return None
        return _printed(series, grid, made)

    async def rows(self, series: Series, grid: Grid, open_ms: int) -> list[bytes]:
        """The kline in progress; none if nothing of it has closed. Raises UpstreamUnavailable where a minute lacks."""
        if (known := self.known(series, grid, open_ms)) is not None:
            return known
        seen_ms = self._clock.seen_ms
        begun = self._made.get(series)
        if begun is not None and begun.open_ms == open_ms and begun.next_ms < seen_ms:
            parts = {series.of(M1): Span(begun.next_ms, seen_ms)}
        else:
            begun = Bucket(open_ms)
            parts = parts_of(series, Span(open_ms, seen_ms), self._ledgers.ledger)
        rows = await self._store.read_spans(parts) if parts else {}
        if (made := rolled(begun, seen_ms, parts, rows, self._ledgers.ledger)) is None:
            raise UpstreamUnavailable(f"{series}: minutes of the kline in progress are not held", Reason.NOT_HELD)
        self._made[series] = made
        return _printed(series, grid, made)


def _printed(series: Series, grid: Grid, bucket: Bucket) -> list[bytes]:
    if not bucket.is_begun:
        return []
    kline = bucket.kline()
    return [series.kind.encode(kline, grid.shift(kline.open_ms, 1) - 1)]
