"""Klines as a sequence: the number of an open time on its interval's grid, and back."""

from app.domain.interval import INTERVALS, Grid


def grid_of(interval: str, open_ms: int | None = None) -> Grid:
    """The grid of an interval; an open time anchors intervals whose grid must be learned. KeyError: none."""
    return INTERVALS[interval].anchored(open_ms)


def sequence_of(grid: Grid, open_ms: int) -> int:
    """The number of the kline that opens at `open_ms`: neighbours differ by one."""
    return grid.count(0, open_ms)


def open_of(grid: Grid, sequence: int) -> int:
    """When the kline with this number opens."""
    return grid.shift(grid.ceil(0), sequence)
