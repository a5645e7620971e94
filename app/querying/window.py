"""The window of a query: which closed klines it asks for, and whether it asks for the one in progress. Pure."""

from typing import NamedTuple

from app.domain.interval import Grid
from app.domain.span import Span
from app.holding.tail import SeriesTail
from app.holding.wish import CLOSE_GRACE_MS
from app.querying.answer import KlineQuery


class Window(NamedTuple):
    """The closed klines that a query asks for: at most `limit` that open in `span`, the oldest or the newest ones.

    The newest ones may begin before `span`, by as many klines as the exchange lacks inside it.
    """

    span: Span
    limit: int
    newest: bool
    is_open_ended: bool
    """Whether klines that close from now on are asked for too."""
    closed_end_ms: int
    ahead: slice | None
    """Which of the klines that open from `closed_end_ms` on are asked for; None when none is.

    They are the kline in progress and, while it has ended but is not closed here yet, the one before.
    """

    def ahead_of(self, rows: int) -> slice | None:
        """`ahead` for an answer with `rows` closed klines; None when those reach the limit."""
        return self.ahead if self.newest or rows < self.limit else None

    def reaches_end(self, rows: int) -> bool:
        """Whether an answer of `rows` closed klines implies that there are no newer closed ones."""
        return self.is_open_ended and (self.newest or rows < self.limit)


def closed_end_ms(grid: Grid, tail: SeriesTail | None, now_ms: int) -> int:
    """The end (ms) of the closed klines: those that are due, and any whose closing frame arrived earlier."""
    due_ms = grid.floor(now_ms - CLOSE_GRACE_MS)
    return max(due_ms, tail.end_ms) if tail and tail.rows and tail.end_ms <= grid.floor(now_ms + 1000) else due_ms


def _ahead(query: KlineQuery, grid: Grid, closed_end_ms: int, now_ms: int) -> slice | None:
    if query.only_final or (query.end_ms is not None and query.end_ms < closed_end_ms):
        return None
    if query.start_ms is not None and query.start_ms > max(closed_end_ms, grid.floor(now_ms)):
        return None
    first = 0 if query.start_ms is None else grid.count(closed_end_ms, query.start_ms)
    if query.end_ms is None:
        return slice(first, None)
    end = grid.count(closed_end_ms, query.end_ms + 1)
    return slice(first, end) if first < end else None


def window_of(query: KlineQuery, grid: Grid, closed_end_ms: int, now_ms: int) -> Window:
    """The window of `query` on `grid`, for closed klines that end at `closed_end_ms`."""
    ahead = _ahead(query, grid, closed_end_ms, now_ms)
    asked_end_ms = None if query.end_ms is None else grid.ceil(query.end_ms + 1)
    end_ms = closed_end_ms if asked_end_ms is None else min(closed_end_ms, asked_end_ms)
    is_open_ended = asked_end_ms is None or asked_end_ms > closed_end_ms
    if query.start_ms is None:
        limit = query.limit if ahead is None else query.limit - 1
        start_ms = grid.ceil(max(0, grid.shift(end_ms, -limit)))
        return Window(Span(start_ms, max(start_ms, end_ms)), limit, True, is_open_ended, closed_end_ms, ahead)
    start_ms = grid.ceil(query.start_ms)
    return Window(Span(start_ms, max(start_ms, end_ms)), query.limit, False, is_open_ended, closed_end_ms, ahead)
