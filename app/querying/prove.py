"""Completes held rows with klines fetched from the exchange, and proves that none is lacking.

REST is asked for the rest where the run of known open times ends. Every kline that is due and missing from REST's
answer must be accounted for (app/querying/read_through.py), or the answer is refused.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.freshness import stale_at_ms
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.querying.gather import Found, PrintedRow, printed
from app.querying.read_through import Edge, ReadThrough, absent_within
from app.querying.window import Window


class Proven(NamedTuple):
    """The rows of an answer, ascending, and the holes between them in which the exchange has none."""

    rows: list[PrintedRow]
    holes: tuple[Span, ...] = ()
    is_recorded: bool = True
    """Whether all holes are recorded in the ledger; unrecorded ones are believed for a limited time only."""


class Prover:
    """Fetches lacking klines from the exchange. Every coroutine raises UpstreamError."""

    def __init__(self, clock: Clock, upstream: ReadThrough, holdings: LedgerCache, *, stale_ms_max: int = 0) -> None:
        self._clock = clock
        self._upstream = upstream
        self._holdings = holdings
        self._stale_ms_max = stale_ms_max

    async def grid(self, series: Series) -> Grid | None:
        """The grid of the series, fetched if it is unknown; None when the exchange has no kline to learn it from."""
        if self._holdings.is_anchored(series):
            return self._holdings.grid(series)
        newest = await self._upstream.klines(series, series.interval.grid, None, 1)
        if not newest:
            self._upstream.check_newest(series, series.interval.grid, self._clock.now_ms())
        return series.interval.anchored(newest[-1].open_ms) if newest else None

    async def ask_anything(self, series: Series, grid: Grid) -> None:
        """Send any request to the exchange: every answer is dated, and the date corrects our clock."""
        await self._upstream.klines(series, grid, None, 1)

    def is_trading(self, series: Series) -> bool:
        """Whether the symbol of `series` trades, so that the series has a kline in progress."""
        return self._upstream.is_trading(series)

    async def complete(self, series: Series, grid: Grid, window: Window, found: Found) -> Proven:
        """All rows of a window: those found in tail and store, and the exchange's for open times that are unknown."""
        if window.newest:
            read = await self._newest(series, grid, window, found)
        else:
            read = await self._oldest(series, grid, window, found)
        rows = read.rows
        if window.reaches_end(len(rows)) and not self.is_fresh(series, grid, window, found, rows):
            last = Span(_end_ms(rows, grid, window), window.closed_end_ms)
            await self._upstream.check_absent(series, grid, last)
        recorded = absent_within(found.absent, [open_ms for open_ms, _ in rows], grid)
        return Proven(rows, tuple(Spans([*read.holes, *recorded])), is_recorded=not read.holes)

    async def _oldest(self, series: Series, grid: Grid, window: Window, held: Found) -> Proven:
        start_ms, end_ms = window.span
        run = held.known.span_at(start_ms)
        known_end_ms = min(end_ms, run.end_ms) if run else start_ms
        found = [row for row in held.rows if row[0] < known_end_ms][: window.limit]
        lacking = window.limit - len(found)
        if known_end_ms >= end_ms or not lacking:
            return Proven(found)
        upstream, span = self._upstream, Span(known_end_ms, end_ms)
        more = await upstream.klines(series, grid, span, lacking)
        is_joined = bool(found) and found[-1][0] == grid.shift(grid.ceil(known_end_ms), -1)
        begin = Edge() if is_joined else await upstream.check_begin(series, grid, span, more)
        after_ms = known_end_ms if is_joined else None
        between = await upstream.holes_between(series, grid, more, after_ms=after_ms)
        is_short = len(more) < lacking and (more or begin == Edge())
        end = await self._check_end(series, grid, span, more, is_joined=is_joined) if is_short else Edge()
        await upstream.accept(series, grid, span, lacking, more)
        found += [(kline.open_ms, printed(series, kline, grid)) for kline in more]
        return Proven(found, (*begin.holes, *between, *end.holes))

    async def _newest(self, series: Series, grid: Grid, window: Window, held: Found) -> Proven:
        end_ms = window.span.end_ms
        run = held.known.span_at(end_ms - 1)
        known_start_ms = run.start_ms if run else end_ms
        found = [row for row in held.rows if row[0] >= known_start_ms][-window.limit :]
        lacking = window.limit - len(found)
        start_ms = grid.ceil(max(0, grid.shift(grid.ceil(known_start_ms), -lacking)))
        if start_ms >= known_start_ms or not lacking:
            return Proven(found)
        upstream, span = self._upstream, Span(start_ms, known_start_ms)
        more = await upstream.klines(series, grid, span, lacking)
        begin = await upstream.check_begin(series, grid, span, more)
        before_ms = known_start_ms if run and found and found[0][0] == grid.ceil(known_start_ms) else None
        between = await upstream.holes_between(series, grid, more, before_ms=before_ms)
        is_open = before_ms is None and (more or begin == Edge())
        end = await self._check_end(series, grid, span, more, is_joined=False) if is_open else Edge()
        await upstream.accept(series, grid, span, lacking, more)
        ended_ms = begin.ended_ms if end.ended_ms is None else end.ended_ms
        holes = (*begin.holes, *between, *end.holes)
        has_more = bool(begin.holes) or ended_ms is not None or (bool(more) and more[0].open_ms == start_ms)
        if len(more) < lacking and has_more:  # klines that there are not do not count
            more, holes = await self._reach_back(series, grid, known_start_ms, lacking, ended_ms)
        return Proven([*((kline.open_ms, printed(series, kline, grid)) for kline in more), *found], holes)

    async def _reach_back(
        self, series: Series, grid: Grid, end_ms: int, limit: int, ended_ms: int | None
    ) -> tuple[Sequence[Any], tuple[Span, ...]]:
        """The last `limit` klines before `end_ms`, however many holes lie between, and the holes.

        `ended_ms`: where the klines of a symbol that no longer trades end.
        """
        upstream = self._upstream
        more = await upstream.newest_before(series, grid, end_ms, limit)
        before_ms = grid.ceil(end_ms) if ended_ms is None else ended_ms
        holes = await upstream.holes_between(series, grid, more, before_ms=before_ms)
        if len(more) < limit:
            await upstream.check_begin(series, grid, Span(0, end_ms), more)
        return more, holes

    async def _check_end(self, series: Series, grid: Grid, span: Span, more: Sequence[Row], *, is_joined: bool) -> Edge:
        """How `span` ends after `more`. Raises UpstreamGarbage when the exchange must have later klines in it."""
        last = Span(grid.shift(more[-1].open_ms, 1) if more else span.start_ms, span.end_ms)
        if self._holdings.ledger(series).absent.covers(last):
            return Edge()
        return await self._upstream.check_end(series, grid, last, more, is_begun=bool(more) or is_joined)

    def is_fresh(self, series: Series, grid: Grid, window: Window, found: Found, rows: list[PrintedRow]) -> bool:
        """Whether the answer may end where it does: a recorded absence of newer klines becomes stale with time."""
        end_ms = _end_ms(rows, grid, window)
        if not grid.count(end_ms, window.closed_end_ms) or not found.absent.covers(Span(end_ms, window.closed_end_ms)):
            return True  # no kline is lacking, or the exchange was asked just now
        if not self._upstream.is_trading(series):
            return True
        return self._clock.now_ms() < stale_at_ms(grid, end_ms, self._stale_ms_max)


def _end_ms(rows: list[PrintedRow], grid: Grid, window: Window) -> int:
    """The end (ms) of the last row; without rows, the start of the window."""
    return grid.shift(rows[-1][0], 1) if rows else window.span.start_ms
