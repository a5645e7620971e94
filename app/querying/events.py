"""Answers from held rows of sparse kinds, such as fundings: how many a window has is unknown until it is read.

With startTime an answer has the oldest rows of its window, otherwise the newest (binance-facts section 2.1). So rows
are read from that end on, as far as all times are known. They are the answer if there are as many as were asked for, or
if the whole window is known. Otherwise the exchange is asked, and what its answer proves is kept.
"""

from collections.abc import Callable
from typing import Final

from app.binance.unreadable import UNREADABLE
from app.domain.columns import Columns
from app.domain.interval import HOUR_MS, Grid
from app.domain.kline import BadKline
from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import ConfirmedClock
from app.ports.store import StoreReader
from app.querying.statistics import PAST_MS, HeldAnswer, Keep, StatisticsQuery

SETTLED_MS: Final = HOUR_MS  # after a step of the grid has closed, an answer without an event proves that there is none


class Events:
    """Answers questions about sparse kinds from the store."""

    def __init__(
        self,
        clock: ConfirmedClock,
        store: StoreReader,
        holdings: LedgerCache,
        is_wished: Callable[[Series], bool],
        keep: Keep,
        is_current: Callable[[], bool],
    ) -> None:
        """`is_current`: whether the ledgers match the store."""
        self._clock = clock
        self._store = store
        self._holdings = holdings
        self._is_wished = is_wished
        self._keep = keep
        self._is_current = is_current

    def keeps(self, series: Series) -> bool:
        """Whether rows of `series` are held, or wished."""
        return self._is_wished(series) or bool(self._holdings.ledger(series).known)

    async def held(self, query: StatisticsQuery) -> HeldAnswer | None:
        """The answer from held rows; None when the exchange has to be asked. Raises StoreUnavailable."""
        series, now_ms = query.series, self._clock.now_ms()
        if not (self._clock.is_trusted and self._is_current()) or series.symbol in self._holdings.doubted:
            return None
        window = events_window(query, now_ms)
        known = self._holdings.ledger(series).known
        is_newest = query.start_ms is None
        span = known.span_at(window.end_ms - 1 if is_newest else window.start_ms) if window else None
        if span is None:
            return None
        part = span.clip(window)
        rows, body = await self._store.read_encoded(series, part, query.limit, newest=is_newest)
        if rows < query.limit and part != window:
            return None
        fresh_ms = PAST_MS
        if part.end_ms == window.end_ms and (query.end_ms is None or query.end_ms >= now_ms):
            fresh_ms = min(fresh_ms, span.end_ms + series.kind.rest.stamp_ms - now_ms)  # then a newer event may exist
        return HeldAnswer(series.kind.finished(body, series.symbol), fresh_ms)

    async def learn(self, query: StatisticsQuery, body: bytes) -> None:
        """Keep the rows of the exchange's answer to `query`."""
        series, now_ms = query.series, self._clock.now_ms()
        grid = self._holdings.grid(series)
        try:
            rows = Columns.of(series.kind.rest.decode(body, grid, series.symbol))
        except (BadKline, *UNREADABLE):
            return  # the client gets what the exchange has sent; nothing of it is kept
        await self._keep(series, grid, _proven(query, rows, grid, now_ms), rows)


def _proven(query: StatisticsQuery, rows: Columns, grid: Grid, now_ms: int) -> Span:
    """The whole steps of the grid of which an answer at `now_ms` has all rows; empty if there is none."""
    window, is_full = events_window(query, now_ms), len(rows) >= query.limit
    closed_ms = grid.floor(now_ms - CLOSE_GRACE_MS - query.series.kind.rest.late_ms)
    if query.end_ms is not None and query.end_ms < now_ms:
        closed_ms = min(closed_ms, grid.floor(window.end_ms))
    start_ms, end_ms = window.start_ms, 0
    if query.start_ms is None:  # whether such an answer ends with the newest rows is not documented
        start_ms = rows.opens_ms[0] if rows else closed_ms
    elif not is_full:
        end_ms = min(closed_ms, grid.floor(now_ms - SETTLED_MS))
    if rows:
        last_ms = grid.floor(rows.opens_ms[-1])
        is_cut = is_full and query.start_ms is not None  # there may be more rows in the last step
        end_ms = max(end_ms, last_ms if is_cut else min(closed_ms, grid.shift(last_ms, 1)))
    return Span(grid.ceil(start_ms), end_ms)


def events_window(query: StatisticsQuery, now_ms: int) -> Span:
    """The open times that `query` is about, to the ms."""
    stamp_ms = query.series.kind.rest.stamp_ms
    last_ms = now_ms if query.end_ms is None else min(query.end_ms, now_ms)
    start_ms = 0 if query.start_ms is None else max(0, query.start_ms - stamp_ms)
    return Span(start_ms, max(start_ms, last_ms - stamp_ms + 1))
