"""Rolling windows over minutes: each window's kline by the roll-up rule, at a cost that hardly depends on its length.

The result equals app.domain.rollup.added_up of each window's minutes, digit for digit. Volumes become integers of their
smallest unit, so that a window's volume is the difference of two running sums; the highest and the lowest price of the
window stand in front of monotonic queues. Minutes without trades are left out of all that; they count only in windows
that have nothing else.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from operator import gt, lt, not_
from typing import Any, Final, NamedTuple, Self

from app.domain.columns import EMPTY, Columns
from app.domain.kline import Kline

_HIGH: Final = 2  # columns of Kline
_LOW: Final = 3
_TRADES: Final = 7
_VOLUMES: Final = (5, 6, 8, 9)  # volume, quote_volume, taker_buy_volume, taker_buy_quote_volume
_ZERO: Final = "0"


class Windows(NamedTuple):
    """Windows of `length_ms`: the first begins at `first_ms`, each next one `step_ms` later, `number` in all."""

    first_ms: int
    length_ms: int
    step_ms: int
    number: int

    @property
    def end_ms(self) -> int:
        """The end of the last window."""
        return self.first_ms + (self.number - 1) * self.step_ms + self.length_ms

    @property
    def begins_ms(self) -> range:
        """When each window begins."""
        return range(self.first_ms, self.first_ms + self.number * self.step_ms, self.step_ms)


def rolled(minutes: Columns, *runs: Windows) -> Columns:
    """The kline of each window, which opens when the window begins; windows without any minute are left out.

    `minutes` are all that exist from the first window's begin to the last one's end. `runs` ascend.
    """
    if not minutes:
        return EMPTY
    trades = minutes.columns[_TRADES]
    traded = _Sliding(minutes if all(trades) else _only(minutes, trades))
    quiet = _Sliding(_only(minutes, map(not_, trades)))
    found: list[tuple[int, str, str, str, str]] = []
    places: list[tuple[int, int]] = []  # of each window's minutes with trades
    for begin_ms, length_ms in ((each, windows.length_ms) for windows in runs for each in windows.begins_ms):
        end_ms = begin_ms + length_ms
        prices = traded.prices(begin_ms, end_ms) or quiet.prices(begin_ms, end_ms)
        if prices is not None:
            found.append((begin_ms, *prices))
            places.append((traded.first, traded.end))
    if not found:
        return EMPTY
    volumes, quotes, takers, taker_quotes = (_Amounts(traded.columns[each]).texts(places) for each in _VOLUMES)
    counts = [0, *accumulate(traded.columns[_TRADES])]
    numbers = [counts[end] - counts[first] for first, end in places]
    return Columns([*map(list, zip(*found, strict=True)), volumes, quotes, numbers, takers, taker_quotes])


class _Sliding:
    """Minutes, of which those inside a window that moves forward are `[first, end)`."""

    def __init__(self, minutes: Columns) -> None:
        self.columns = minutes.columns or ([],) * len(Kline._fields)
        self._opens_ms: Sequence[int] = self.columns[0]
        self.first = self.end = 0
        self._high = _Extreme(self.columns[_HIGH], lt)
        self._low = _Extreme(self.columns[_LOW], gt)

    def prices(self, begin_ms: int, end_ms: int) -> tuple[str, str, str, str] | None:
        """Open, high, low and close of the minutes in the window; None if it has none."""
        before = self.end
        self.first = bisect_left(self._opens_ms, begin_ms, self.first)
        self.end = bisect_left(self._opens_ms, end_ms, max(before, self.first))
        high, low = self._high.moved(before, self.first, self.end), self._low.moved(before, self.first, self.end)
        if self.first == self.end:
            return None
        opened, closed = self.columns[1][self.first], self.columns[4][self.end - 1]
        return opened, self.columns[_HIGH][high], self.columns[_LOW][low], closed


class _Extreme:
    """The place of the greatest or the least number in a moving window; of equal ones the first."""

    def __init__(self, numbers: Sequence[str], is_beaten: Callable[[int, int], bool]) -> None:
        self._values = _Units.of(numbers).values
        self._is_beaten = is_beaten
        self._places: deque[int] = deque()  # of values that nothing after them beats: the extreme one comes first

    def moved(self, before: int, first: int, end: int) -> int:
        """Move the window, which ended before place `before`, to `[first, end)`; -1 if that is empty."""
        places, values, is_beaten = self._places, self._values, self._is_beaten
        for place in range(max(before, first), end):
            value = values[place]
            while places and is_beaten(values[places[-1]], value):
                places.pop()
            places.append(place)
        while places and places[0] < first:
            places.popleft()
        return places[0] if places else -1


class _Units(NamedTuple):
    """Numbers as integers of the smallest unit that any of them has."""

    values: list[int]
    decimals: list[int]
    """How many decimals each number has."""
    kinds: list[int]
    """The counts of decimals that occur, the greatest first; a bare "0" says nothing."""

    @classmethod
    def of(cls, numbers: Sequence[str]) -> Self:
        decimals = [len(number.partition(".")[2]) for number in numbers]
        kinds = sorted({each for each, number in zip(decimals, numbers, strict=True) if number != _ZERO}, reverse=True)
        values = list(map(int, ",".join(numbers).replace(".", "").split(","))) if numbers else []
        if len(kinds) > 1:
            values = [value * 10 ** (kinds[0] - each) for value, each in zip(values, decimals, strict=True)]
        return cls(values, decimals, kinds or [0])


class _Amounts:
    """The running sums of a column of volumes."""

    def __init__(self, numbers: Sequence[str]) -> None:
        units = _Units.of(numbers)
        self._kinds = units.kinds
        self._sums = [0, *accumulate(units.values)]
        self._counts = [  # for each kind: how many of the numbers before a place have as many decimals
            [0, *accumulate(each == kind for each in units.decimals)] for kind in units.kinds if len(units.kinds) > 1
        ]

    def texts(self, places: Sequence[tuple[int, int]]) -> list[str]:
        """The sums of the numbers `[first, end)`, each with as many decimals as that one of them that has most."""
        sums, most = self._sums, self._kinds[0]
        units = [sums[end] - sums[first] for first, end in places]
        if len(self._kinds) == 1:
            return [_text(each, most) for each in units]
        return [
            _text(each // 10 ** (most - decimals), decimals)
            for each, place in zip(units, places, strict=True)
            for decimals in [self._decimals(*place)]
        ]

    def _decimals(self, first: int, end: int) -> int:
        for kind, counts in zip(self._kinds, self._counts, strict=True):
            if counts[end] > counts[first]:
                return kind
        return 0  # all of them are a bare "0"


def _text(units: int, decimals: int) -> str:
    if not units or not decimals:
        return str(units)
    text = str(units).zfill(decimals + 1)
    return f"{text[:-decimals]}.{text[-decimals:]}"


def _only(minutes: Columns, chosen: Any) -> Columns:
    """The minutes for which `chosen` has something true."""
    places = list(compress(range(len(minutes)), chosen))
    return Columns([column[place] for place in places] for column in minutes.columns)
