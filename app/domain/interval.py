"""The 15 kline intervals and the grid of open times that each of them must have.

Source of the alignment rules: binance-facts section 3. Intervals up to 1d open on UTC epoch multiples, weeks on Monday
00:00 UTC, months on the first. A 3d grid is anchored per symbol and has to be learned from the exchange's own rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
_WEEK_MS: Final = 7 * DAY_MS
_FIRST_MONDAY_MS: Final = 4 * DAY_MS  # 1970-01-05
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FixedGrid:
    """Open times `origin_ms + n * step_ms`."""

    step_ms: int
    origin_ms: int = 0

    def floor(self, time_ms: int) -> int:
        """The last open time at or before `time_ms`."""
        return time_ms - (time_ms - self.origin_ms) % self.step_ms

    def ceil(self, time_ms: int) -> int:
        """The first open time at or after `time_ms`."""
        return time_ms + (self.origin_ms - time_ms) % self.step_ms

    def shift(self, open_ms: int, steps: int) -> int:
        """The open time `steps` after `open_ms` (before it when negative); `open_ms` must be on the grid."""
        return open_ms + steps * self.step_ms

    def count(self, start_ms: int, end_ms: int) -> int:
        """How many open times lie in `[start_ms, end_ms)`."""
        return max(0, (self.ceil(end_ms) - self.ceil(start_ms)) // self.step_ms)

    def opens(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """The open times in `[start_ms, end_ms)`, ascending."""
        return iter(range(self.ceil(start_ms), end_ms, self.step_ms))


class MonthGrid:
    """Open times at 00:00 UTC on the first of each month."""

    step_ms: Final = 30 * DAY_MS  # nominal, for estimates only

    def floor(self, time_ms: int) -> int:
        """The last open time at or before `time_ms`."""
        return _month_start_ms(_month_index(time_ms))

    def ceil(self, time_ms: int) -> int:
        """The first open time at or after `time_ms`."""
        floor = self.floor(time_ms)
        return floor if floor == time_ms else self.shift(floor, 1)

    def shift(self, open_ms: int, steps: int) -> int:
        """The open time `steps` months after `open_ms` (before it when negative)."""
        return _month_start_ms(_month_index(open_ms) + steps)

    def count(self, start_ms: int, end_ms: int) -> int:
        """How many open times lie in `[start_ms, end_ms)`."""
        return max(0, _month_index(self.ceil(end_ms)) - _month_index(self.ceil(start_ms)))

    def opens(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """The open times in `[start_ms, end_ms)`, ascending."""
        return (
            _month_start_ms(index)
            for index in range(_month_index(self.ceil(start_ms)), _month_index(self.ceil(end_ms)))
        )


class UnanchoredGrid(FixedGrid):
    """The grid of an interval whose anchor is not known yet: any UTC midnight may be an open time.

    Use it to check the exchange's rows, from which the anchor is learned; never to say which rows must exist.
    """

    def floor(self, time_ms: int) -> int:
        """The last midnight at or before `time_ms`."""
        return time_ms - time_ms % DAY_MS

    def ceil(self, time_ms: int) -> int:
        """The first midnight at or after `time_ms`."""
        return time_ms + -time_ms % DAY_MS


Grid = FixedGrid | MonthGrid


def _month_index(time_ms: int) -> int:
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.year * 12 + moment.month - 1


def _month_start_ms(index: int) -> int:
    year, month = divmod(index, 12)
    return (datetime(year, month + 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """One of Binance's kline intervals. Each exists once in a process; two are equal if they are the same object.

    `code` is Binance's name. `1m` and `1M` differ only by case, so it is never compared case-insensitively. `slug` is
    the name where case may be ignored: table names, file names, archive folders.
    """

    code: str
    slug: str
    grid: Grid
    needs_anchor: bool = False
    """Whether the grid has to be learned per symbol (binance-facts section 3: 3d only)."""

    def anchored(self, open_ms: int | None) -> Grid:
        """The interval's grid for a symbol with a 3d kline at `open_ms` (None: unknown). Only 3d depends on it."""
        if not self.needs_anchor or open_ms is None:
            return self.grid
        return FixedGrid(self.grid.step_ms, open_ms % self.grid.step_ms)

    def __str__(self) -> str:
        return self.code

    def __hash__(self) -> int:
        return hash(self.code)  # called several times for each frame; hashing all fields takes eight times as long

    def __reduce__(self) -> tuple[object, ...]:
        return _known, (self.code,)  # unpickled, it is the other process's own object


def _fixed(code: str, step_ms: int, origin_ms: int = 0) -> Interval:
    return Interval(code, code, FixedGrid(step_ms, origin_ms))


M1: Final = _fixed("1m", MINUTE_MS)
D1: Final = _fixed("1d", DAY_MS)
MO1: Final = Interval("1M", "1mo", MonthGrid())
D3: Final = Interval("3d", "3d", UnanchoredGrid(3 * DAY_MS), needs_anchor=True)

INTERVALS: Final[dict[str, Interval]] = {
    interval.code: interval
    for interval in (
        M1,
        _fixed("3m", 3 * MINUTE_MS),
        _fixed("5m", 5 * MINUTE_MS),
        _fixed("15m", 15 * MINUTE_MS),
        _fixed("30m", 30 * MINUTE_MS),
        _fixed("1h", HOUR_MS),
        _fixed("2h", 2 * HOUR_MS),
        _fixed("4h", 4 * HOUR_MS),
        _fixed("6h", 6 * HOUR_MS),
        _fixed("8h", 8 * HOUR_MS),
        _fixed("12h", 12 * HOUR_MS),
        D1,
        D3,
        _fixed("1w", _WEEK_MS, _FIRST_MONDAY_MS),
        MO1,
    )
}
"""Binance's 15 intervals by code, shortest first."""


def _known(code: str) -> Interval:
    return INTERVALS[code]
