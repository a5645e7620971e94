"""Columnar roll-up of whole days of minutes: the same klines as app.domain.rollup in a tenth of the time.

Numbers with the same count of decimals are converted to integers of their smallest unit, which add and compare exactly.
A bucket that contains a part without trades is rolled up by app.domain.rollup, which has a rule for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from app.domain.columns import Columns
from app.domain.interval import D1, DAY_MS, M1, MINUTE_MS, FixedGrid, Interval
from app.domain.kline import Kline, Precision
from app.domain.rollup import added_up
from app.domain.span import Span, Spans

_VOLUMES: Final = (5, 6, 8, 9)  # of Kline: volume, quote_volume, taker_buy_volume, taker_buy_quote_volume


class _Level(NamedTuple):
    """Klines of one interval, and their numbers as integers of the smallest unit."""

    step_ms: int
    rows: Columns
    highs: list[int]
    lows: list[int]
    volumes: list[list[int]]


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
    volumes = [_units(columns[field], each) for field, each in zip(_VOLUMES, decimals, strict=True)]
    levels = [_Level(MINUTE_MS, whole, _units(columns[2], price), _units(columns[3], price), volumes)]
    made = {}
    for interval in sorted(intervals, key=lambda each: each.grid.step_ms):
        step_ms = interval.grid.step_ms
        parts = next(level for level in reversed(levels) if step_ms % level.step_ms == 0)
        level = _longer(parts, step_ms, decimals)
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
        is_new_day = bool(self._waiting) and self._waiting[0].opens_ms[0] < day_ms
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


def _longer(parts: _Level, step_ms: int, decimals: Sequence[int]) -> _Level:
    """The klines of `step_ms` made of `parts`. Days are whole, so each run of `size` parts is one bucket."""
    size = step_ms // parts.step_ms
    columns = parts.rows.columns
    highs = list(map(max, *(parts.highs[number::size] for number in range(size))))
    lows = list(map(min, *(parts.lows[number::size] for number in range(size))))
    volumes = [list(map(sum, _runs(column, size))) for column in parts.volumes]
    high_texts = dict(zip(parts.highs, columns[2], strict=True))
    low_texts = dict(zip(parts.lows, columns[3], strict=True))
    texts = [_texts(column, each) for column, each in zip(volumes, decimals, strict=True)]
    made: list[list[Any]] = [
        columns[0][::size],
        columns[1][::size],
        [high_texts[each] for each in highs],
        [low_texts[each] for each in lows],
        columns[4][size - 1 :: size],
        texts[0],
        texts[1],
        list(map(sum, _runs(columns[7], size))),
        texts[2],
        texts[3],
    ]
    level = _Level(step_ms, Columns(made), highs, lows, volumes)
    if 0 in columns[7]:
        for number, fewest in enumerate(map(min, _runs(columns[7], size))):
            if not fewest:
                kline = added_up(parts.rows[number * size : (number + 1) * size], made[0][number])
                assert kline is not None, "a bucket of a whole day has parts"
                _replace(level, made, number, kline)
    return level


def _replace(level: _Level, made: list[list[Any]], number: int, kline: Kline) -> None:
    for column, value in zip(made, kline, strict=True):
        column[number] = value
    level.highs[number], level.lows[number] = _unit(kline.high), _unit(kline.low)
    for units, field in zip(level.volumes, _VOLUMES, strict=True):
        units[number] = _unit(str(kline[field]))


def _runs(column: list[int], size: int) -> Iterable[tuple[int, ...]]:
    return zip(*[iter(column)] * size, strict=True)


def _units(texts: list[str], decimals: int) -> list[int]:
    if not decimals:
        return list(map(int, texts))
    return list(map(int, "\n".join(texts).replace(".", "").split("\n")))


def _unit(text: str) -> int:
    return int(text.replace(".", ""))


def _texts(units: list[int], decimals: int) -> list[str]:
    if not decimals:
        return list(map(str, units))
    padded = (str(each).zfill(decimals + 1) if each else "" for each in units)
    return [f"{each[:-decimals]}.{each[-decimals:]}" if each else "0" for each in padded]
