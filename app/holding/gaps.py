"""The gaps: what is wished of a series and neither held nor proven absent."""

from dataclasses import dataclass

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish


@dataclass(frozen=True, slots=True)
class SeriesGap:
    """What is wished of one series and what of it is neither held nor proven absent."""

    series: Series
    grid: Grid
    wished: Spans
    missing: Spans
    tail: Span


def survey(wish: Wish, holdings: LedgerCache, series: Series, now_ms: int) -> SeriesGap:
    """Compare wish and ledger of one series. While its grid is unknown, the spans are right to a day."""
    grid = holdings.grid(series)
    wished = Spans(wish.spans(series, grid, now_ms))
    return SeriesGap(series, grid, wished, wished - holdings.ledger(series).known, wish.tail(series, grid, now_ms))
