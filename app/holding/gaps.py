"""Gaps: the klines of a series that are wished but neither held nor proven absent."""

from dataclasses import dataclass

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish


@dataclass(frozen=True, slots=True)
class SeriesGap:
    """The wished spans of one series, and its gaps: the wished spans neither held nor proven absent (`missing`)."""

    series: Series
    grid: Grid
    wished: Spans
    missing: Spans
    tail: Span


def survey(wish: Wish, holdings: LedgerCache, series: Series, now_ms: int) -> SeriesGap:
    """Compare wish and ledger of one series. While the grid's anchor is unknown, spans may be off by up to a day."""
    grid = holdings.grid(series)
    wished = Spans(wish.spans(series, grid, now_ms))
    return SeriesGap(series, grid, wished, wished - holdings.ledger(series).known, wish.tail(series, grid, now_ms))
