"""Reading ahead: whoever pages through history finds the next page read already."""

import asyncio
from typing import Final, NamedTuple

from cachetools import LRUCache

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.store import StoreReader

PAGES_MAX: Final = 32  # of at most 0.25 MB each; a pager takes its page within milliseconds
PAGERS_MAX: Final = 256  # last places remembered, to tell who pages from who asks once
QUEUE_MAX: Final = 16  # pages to read; more pagers than that keep the database busy as it is
AGE_MS_MAX: Final = 1_000  # a page that was not taken by then was a wrong guess; followers hear of changes this late


class _Page(NamedTuple):
    body: bytes
    read_ms: int


class ReadAhead:
    """Pages of held history that are likely to be asked for next."""

    def __init__(self, clock: Clock, store: StoreReader, holdings: LedgerCache) -> None:
        self._clock = clock
        self._store = store
        self._holdings = holdings
        self._pages: LRUCache[tuple[Series, Span], _Page] = LRUCache(PAGES_MAX)
        self._ends: LRUCache[tuple[Series, int], int] = LRUCache(PAGERS_MAX)
        self._wanted: asyncio.Queue[tuple[Series, Span, int]] = asyncio.Queue(QUEUE_MAX)
        self._under_way: tuple[Series, Span] | None = None
        self.taken = 0
        """Pages that were asked for after they had been read."""

    def take(self, series: Series, span: Span) -> bytes | None:
        """The body of a page that was read ahead, if it is still true."""
        page = self._pages.pop((series, span), None)
        if page is None or not is_fresh(page.read_ms, self._clock.now_ms(), AGE_MS_MAX):
            return None
        self.taken += 1
        return page.body

    def served(self, series: Series, grid: Grid, span: Span) -> None:
        """A page was served: when it continued another of its size, the one after it is wanted."""
        rows = grid.count(*span)
        key = (series, rows)
        is_paging = self._ends.get(key) == span.start_ms
        self._ends[key] = span.end_ms
        following = Span(span.end_ms, grid.shift(span.end_ms, rows))
        if is_paging and not self._wanted.full() and self._holdings.ledger(series).held.covers(following):
            self._wanted.put_nowait((series, following, rows))

    def drop(self, series: Series, span: Span) -> None:
        """Klines of `series` that open in `span` changed."""
        for key in [key for key in self._pages if key[0] == series and key[1].clip(span)]:
            del self._pages[key]
        if self._under_way is not None and self._under_way[0] == series and self._under_way[1].clip(span):
            self._under_way = None

    def clear(self) -> None:
        """Anything may have changed."""
        self._pages.clear()
        self._under_way = None

    async def run(self) -> None:
        """Read what is wanted, for ever."""
        while True:
            series, span, rows = await self._wanted.get()
            self._under_way = key = (series, span)
            try:
                found, body = await self._store.read_encoded(series, span, rows)
            except StoreUnavailable:
                continue  # the request itself will say so
            if found == rows and self._under_way is key:  # else something changed while it was read
                self._pages[key] = _Page(body, self._clock.now_ms())
