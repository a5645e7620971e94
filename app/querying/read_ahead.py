"""Reading ahead: when a client pages through history, the next page is read before the client asks for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from cachetools import LRUCache

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable

PAGES_MAX: Final = 32  # of at most 0.25 MB each; a paging client asks for its page within milliseconds
PAGERS_MAX: Final = 256  # ends of served pages kept, to recognise a client that pages
QUEUE_MAX: Final = 16  # pages waiting to be read; with more paging clients the database is busy anyway
AGE_MS_MAX: Final = 1_000  # an unused page was a wrong guess; followers see changes up to this late


ReadRun = Callable[[Series, Span, int], Awaitable[tuple[int, bytes]]]
"""Reads at most so many rows that open in a span, of as many open times: their number, and them as an answer's body.

Raises StoreUnavailable.
"""


class _Page(NamedTuple):
    body: bytes
    read_ms: int


class ReadAhead:
    """Pages of held history that are likely to be asked for next."""

    def __init__(self, clock: Clock, read_run: ReadRun, holdings: LedgerCache) -> None:
        self._clock = clock
        self._read_run = read_run
        self._holdings = holdings
        self._pages: LRUCache[tuple[Series, Span], _Page] = LRUCache(PAGES_MAX)
        self._ends: LRUCache[tuple[Series, int], int] = LRUCache(PAGERS_MAX)
        self._wanted: asyncio.Queue[tuple[Series, Span, int]] = asyncio.Queue(QUEUE_MAX)
        self._under_way: tuple[Series, Span] | None = None
        self.taken = 0
        """Count of pages that were read ahead and then asked for."""

    def take(self, series: Series, span: Span) -> bytes | None:
        """Remove and return the body of a page that was read ahead; None if there is none or it is too old."""
        page = self._pages.pop((series, span), None)
        if page is None or not is_fresh(page.read_ms, self._clock.now_ms(), AGE_MS_MAX):
            return None
        self.taken += 1
        return page.body

    def served(self, series: Series, grid: Grid, span: Span) -> None:
        """Record that a page was served; if it continues an earlier page of the same size, queue the next page."""
        rows = grid.count(*span)
        key = (series, rows)
        is_paging = self._ends.get(key) == span.start_ms
        self._ends[key] = span.end_ms
        following = Span(span.end_ms, grid.shift(span.end_ms, rows))
        if is_paging and not self._wanted.full() and self._holdings.ledger(series).held.covers(following):
            self._wanted.put_nowait((series, following, rows))

    def drop(self, series: Series, span: Span) -> None:
        """Invalidate pages of `series` that overlap `span`: their klines changed."""
        for key in [key for key in self._pages if key[0] == series and key[1].clip(span)]:
            del self._pages[key]
        if self._under_way is not None and self._under_way[0] == series and self._under_way[1].clip(span):
            self._under_way = None

    def clear(self) -> None:
        """Invalidate all pages: any kline may have changed."""
        self._pages.clear()
        self._under_way = None

    async def run(self) -> None:
        """Read queued pages, for ever."""
        while True:
            series, span, rows = await self._wanted.get()
            self._under_way = key = (series, span)
            try:
                found, body = await self._read_run(series, span, rows)
            except StoreUnavailable:
                continue  # the client's own request will report it
            if found == rows and self._under_way is key:  # otherwise the page was invalidated while it was read
                self._pages[key] = _Page(body, self._clock.now_ms())
