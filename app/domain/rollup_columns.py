"""Columnar roll-up of whole days of minutes: the same klines as app.domain.rollup in a tenth of the time.

Volumes with the same count of decimals are converted to integers of their smallest unit, which add exactly: what a
bucket has is the difference of two running sums. Prices with the same count of decimals compare as texts of equal
length. A bucket that contains a part without trades is rolled up by app.domain.rollup, which has a rule for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from operator import sub
from typing import Any, Final, NamedTuple

from app.domain.columns import Columns
from app.domain.integers import integers, texts
from app.domain.interval import D1, DAY_MS, M1, MINUTE_MS, FixedGrid, Interval
from app.domain.kline import Kline, Precision
from app.domain.rollup import added_up
from app.domain.span import Span, Spans

_VOLUMES: Final = (5, 6, 8, 9)  # of Kline: volume, quote_volume, taker_buy_volume, taker_buy_quote_volume
_TRADES: Final = 7


class _Level(NamedTuple):
    """Klines of one interval, and their highs and lows as texts of equal length."""

    step_ms: int
    rows: Columns
    highs: list[str]
    lows: list[str]


def can_roll_up(interval: Interval) -> bool:
    """Whether a UTC day consists of whole klines of `interval`, which holds from 3m to 1d."""
    grid = interval.grid
    return type(grid) is FixedGrid and MINUTE_MS < grid.step_ms <= DAY_MS and DAY_MS % grid.step_ms == 0


def roll_up_days(minutes: Columns, precision: Precision, intervals: Iterable[Interval]) -> dict[Interval, Columns]:
    """The klines of `intervals` (see `can_roll_up`) in every UTC day of which `minutes` has all.

    Every number must have exactly the decimals of `precision`, or be a bare "0".
    """
    days = Spans(Span(D1.grid.ceil(span.start_ms), D1.grid.floor(span.end_ms)) for span in minutes.spans(M1.grid))
    whole = minutes.within(days)
    if not whole:
        return {}
    price, quantity = precision
    decimals = (quantity, price + quantity, quantity, price + quantity)
    columns = whole.columns
    sums = _sums(columns)
    levels = [_Level(MINUTE_MS, whole, _of_equal_length(columns[2]), _of_equal_length(columns[3]))]
    made = {}
    for interval in sorted(intervals, key=lambda each: each.grid.step_ms):
        step_ms = interval.grid.step_ms
        parts = next(level for level in reversed(levels) if step_ms % level.step_ms == 0)
        level = _longer(parts, step_ms, sums, decimals)
        levels.append(level)
        made[interval] = level.rows
    return made


class DayByDay:
    """Rolls up minutes that arrive in ascending parts, a day as soon as a part of a later day arrives."""

    def __init__(self, precision: Precision, intervals: Sequence[Interval]) -> None:
        self._precision = precision
        self._intervals = intervals
        self._waiting: list[Columns] = []  # parts of the newest day seen
        self._is_uniform = True

    def take(self, minutes: Columns, *, is_uniform: bool) -> Mapping[Interval, Columns]:
        """Add `minutes` and return klines of days that are over; those of other days follow later or from `rest`.

        `is_uniform`: every number has exactly the decimals of the precision, or is a bare "0". Days with a part for
        which it is False are left out.
        """
        day_ms = D1.grid.floor(minutes.opens_ms[-1])
        is_new_day = (self._waiting or [minutes])[0].opens_ms[0] < day_ms
        made: Mapping[Interval, Columns] = {}
        if is_new_day:
            self._add(minutes.between(0, day_ms), is_uniform=is_uniform)
            made = self.rest()
            minutes = minutes.between(day_ms, minutes.opens_ms[-1] + 1)
        self._add(minutes, is_uniform=is_uniform)
        return made

    def rest(self) -> Mapping[Interval, Columns]:
        """The klines of the days that `take` has not returned yet; called after the last part."""
        minutes, is_uniform = Columns.joined(self._waiting), self._is_uniform
        self._waiting, self._is_uniform = [], True
        return roll_up_days(minutes, self._precision, self._intervals) if is_uniform else {}

    def _add(self, minutes: Columns, *, is_uniform: bool) -> None:
        if minutes:
            self._waiting.append(minutes)
            self._is_uniform = self._is_uniform and is_uniform


def _longer(parts: _Level, step_ms: int, sums: Sequence[list[int]], decimals: Sequence[int]) -> _Level:
    """The klines of `step_ms` made of `parts`. Days are whole, so each run of `size` parts is one bucket."""
    size = step_ms // parts.step_ms
    columns = parts.rows.columns
    highs = list(map(max, *(parts.highs[number::size] for number in range(size))))
    lows = list(map(min, *(parts.lows[number::size] for number in range(size))))
    *volumes, trades = (_differences(each, step_ms // MINUTE_MS) for each in sums)
    amounts = [_texts(column, each) for column, each in zip(volumes, decimals, strict=True)]
    made: list[list[Any]] = [
        columns[0][::size],
        columns[1][::size],
        list(map(str.lstrip, highs)),
        list(map(str.lstrip, lows)),
        columns[4][size - 1 :: size],
        amounts[0],
        amounts[1],
        trades,
        amounts[2],
        amounts[3],
    ]
    level = _Level(step_ms, Columns(made), highs, lows)
    if 0 in columns[_TRADES]:
        for number, fewest in enumerate(map(min, _runs(columns[_TRADES], size))):
            if not fewest:
                kline = added_up(parts.rows[number * size : (number + 1) * size], made[0][number])
                assert kline is not None, "a bucket of a whole day has parts"
                _replace(level, made, number, kline)
    return level


def _replace(level: _Level, made: list[list[Any]], number: int, kline: Kline) -> None:
    for column, value in zip(made, kline, strict=True):
        column[number] = value
    level.highs[number] = kline.high.rjust(len(level.highs[number]))
    level.lows[number] = kline.low.rjust(len(level.lows[number]))


def _runs(column: list[int], size: int) -> Iterable[tuple[int, ...]]:
    return zip(*[iter(column)] * size, strict=True)


def _sums(columns: Sequence[list[Any]]) -> list[list[int]]:
    """The running sums of volumes and trades. A minute without trades adds nothing, whatever its volumes say."""
    trades: list[int] = columns[_TRADES]
    volumes = [_units(columns[field]) for field in _VOLUMES]
    if 0 in trades:
        volumes = [[unit if number else 0 for unit, number in zip(each, trades, strict=True)] for each in volumes]
    return [list(accumulate(each)) for each in (*volumes, trades)]


def _differences(sums: list[int], size: int) -> list[int]:
    """What each run of `size` minutes adds to the running sums."""
    ends = sums[size - 1 :: size]
    return list(map(sub, ends, chain((0,), ends)))


def _of_equal_length(numbers: list[str]) -> list[str]:
    """Numbers with the same count of decimals, so that texts compare as they do: a space is less than any digit."""
    lengths = set(map(len, numbers))
    return numbers if len(lengths) == 1 else [number.rjust(max(lengths)) for number in numbers]


def _units(numbers: list[str]) -> list[int]:
    digits = ",".join(numbers).replace(".", "")
    try:
        return integers(digits)
    except ValueError:  # some are less than 1
        return list(map(int, digits.split(",")))


def _texts(units: list[int], decimals: int) -> list[str]:
    found = texts(units)
    if not decimals:
        return found
    padded = found if min(units) >= 10**decimals else (text.zfill(decimals + 1) for text in found)
    cut = [f"{text[:-decimals]}.{text[-decimals:]}" for text in padded]
    return cut if all(units) else [text if unit else "0" for text, unit in zip(cut, units, strict=True)]
