"""Which rows of a series form one sealed block.

Blocks follow the calendar (UTC), so that an archive file of a month contains whole ones. Each has about as many rows as
a day of minutes has: as many days of a month as the interval has minutes, or as many months of a year. Measured on
recorded minutes, a row costs the same from 96 rows a block on (35 to 37 bytes), but each block is rounded up to whole
pages and has a key, and an answer of 1,500 rows is made of two blocks instead of seven.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from app.domain.interval import DAY_MS, MINUTE_MS, FixedGrid, Interval
from app.domain.kind import Kind
from app.domain.span import Span

OF_MINUTES_MS: Final = DAY_MS  # of 1m; tests make it short
ROWS_MAX: Final = 4 * 480
"""The most rows of a block: 3m has blocks of three days, and a month of 31 days ends with one of four."""

_MONTH_DAYS: Final = 30  # a block of days ends with a month, whatever is left of it
_KEPT: Final = 10_000  # spans; a year has 365 days and six intervals
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_sealable(kind: Kind, interval: Interval) -> bool:
    """Whether rows are sealed: those up to 1d that fill their grid. A year of others has few more rows than a page."""
    if kind.is_sparse:
        return False
    return type(interval.grid) is FixedGrid and interval.grid.step_ms <= DAY_MS and not interval.grid.origin_ms


def block_span(interval: Interval, time_ms: int) -> Span:
    """The span of open times of the block that contains `time_ms`; `interval` must be sealable."""
    if interval.grid.step_ms <= MINUTE_MS:
        start_ms = time_ms - time_ms % OF_MINUTES_MS
        return Span(start_ms, start_ms + OF_MINUTES_MS)
    return _span(interval.grid.step_ms // MINUTE_MS, time_ms // DAY_MS)


@lru_cache(_KEPT)
def _span(minutes: int, day: int) -> Span:
    moment = _EPOCH + timedelta(days=day)
    if minutes < _MONTH_DAYS:
        days = minutes
        last = _MONTH_DAYS // days - 1
        number = min((moment.day - 1) // days, last)
        start = datetime(moment.year, moment.month, 1 + number * days, tzinfo=UTC)
        if number < last:
            return Span(_ms(start), _ms(start) + days * DAY_MS)
        return Span(_ms(start), _ms(_months_after(moment, 1)))
    months = max(each for each in (1, 2, 4, 6, 12) if each * _MONTH_DAYS <= minutes)
    first = (moment.month - 1) % months
    return Span(_ms(_months_after(moment, -first)), _ms(_months_after(moment, months - first)))


def _months_after(moment: datetime, months: int) -> datetime:
    """The start of the month of `moment`, shifted by `months`."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
