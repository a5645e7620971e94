"""The numbers of trades and aggregates, which are consecutive from the listing on.

The trades of an hour are counted without computing them, and summed from an anchor on in both directions: the time
this takes grows with the distance from it (about 20 ms a symbol for a month), so that it is near the sandbox's present.
"""

import threading
from array import array
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from infra.sandbox.candles import RUNS_MAX, hour_trades
from infra.sandbox.grid import HOUR_MS, MINUTE_MS, utc, utc_ms
from infra.sandbox.recent import Recent
from infra.sandbox.universe import Instrument

ANCHOR_HOUR: Final = utc_ms(2026, 11, 1) // HOUR_MS  # in which numbers begin unless the sandbox's clock is later
_SYMBOLS_MAX: Final = 2_048  # whose sums are cached, about 16 bytes an hour
_MERGED_OF: Final = 4  # of the trades above RUNS_MAX in a minute, one in so many is merged with the one before it


class Count(NamedTuple):
    """Numbers of trades and of aggregates."""

    trades: int
    aggregates: int


def anchor_hour(now_ms: int) -> int:
    """The hour in which the numbers of a sandbox begin that starts at `now_ms`: the start of its month."""
    now = utc(now_ms)
    return max(ANCHOR_HOUR, utc_ms(now.year, now.month) // HOUR_MS)


def aggregates_of(trades: int) -> int:
    """How many aggregates a minute of so many trades has."""
    return trades - (trades - RUNS_MAX) // _MERGED_OF if trades > RUNS_MAX else trades


@lru_cache(maxsize=4_096)
def minutes_before(item: Instrument, hour: int, *, aggregate: bool) -> tuple[int, ...]:
    """The trades (or aggregates) in the hour before each of its minutes, and at last in the whole hour."""
    counts = hour_trades(item, hour)
    return (0, *accumulate(map(aggregates_of, counts) if aggregate else counts))


class _Sums:
    """The first numbers in each hour of one symbol."""

    def __init__(self, item: Instrument, anchor: int) -> None:
        self._item = item
        self._lock = threading.Lock()
        listed = item.onboard_ms // HOUR_MS
        self.origin = max(anchor, listed)
        # enough numbers below it for all earlier trades: a minute has at most twice the usual number, and one
        base = 1 + (self.origin - listed) * 60 * (2 * item.trades_a_minute + 1)
        self._after = (array("q", [base]), array("q", [base]))
        self._before = (array("q", [base]), array("q", [base]))

    def at(self, hour: int) -> Count:
        """The first numbers in `hour`."""
        with self._lock:
            place = hour - self.origin
            sums = self._after if place >= 0 else self._before
            while len(sums[0]) <= abs(place):
                self._extend(sums, 1 if place >= 0 else -1)
            return Count(sums[0][abs(place)], sums[1][abs(place)])

    def hour_of(self, number: int, since: int, until: int, *, aggregate: bool) -> int:
        """The hour in [since, until] that contains `number`, or the nearest of them."""
        with self._lock:
            after, before = self._after[aggregate], self._before[aggregate]
            if number >= after[0]:
                while after[-1] <= number and self.origin + len(after) <= until:
                    self._extend(self._after, 1)
                hour = self.origin + bisect_right(after, number) - 1
            else:
                while before[-1] > number and self.origin - len(before) >= since:
                    self._extend(self._before, -1)
                hour = self.origin - min(bisect_left(before, -number, key=_negative), len(before) - 1)
        return min(max(hour, since), until)

    def _extend(self, sums: "tuple[array[int], array[int]]", step: int) -> None:
        hour = self.origin + len(sums[0]) - 1 if step > 0 else self.origin - len(sums[0])
        counts = hour_trades(self._item, hour)
        sums[0].append(sums[0][-1] + step * sum(counts))
        sums[1].append(sums[1][-1] + step * sum(map(aggregates_of, counts)))


class Numbers:
    """The first numbers of hours and minutes, and the minute of a number."""

    def __init__(self, anchor: int = ANCHOR_HOUR) -> None:
        self._anchor = anchor
        self._sums: Recent[Instrument, _Sums] = Recent(_SYMBOLS_MAX)

    def first(self, item: Instrument, open_ms: int, *, aggregate: bool = False) -> int:
        """The number of the first trade (or aggregate) at or after the minute `open_ms`."""
        hour = open_ms // HOUR_MS
        minute = (open_ms - hour * HOUR_MS) // MINUTE_MS
        start = self._of(item).at(hour)[aggregate]
        return start + minutes_before(item, hour, aggregate=aggregate)[minute] if minute else start

    def minute_of(self, item: Instrument, number: int, since_ms: int, until_ms: int, *, aggregate: bool) -> int:
        """The open time of the minute between both times that contains `number`, or of the nearest one."""
        since, until = max(since_ms, item.onboard_ms) // HOUR_MS, until_ms // HOUR_MS
        sums = self._of(item)
        hour = sums.hour_of(number, since, max(since, until), aggregate=aggregate)
        before = minutes_before(item, hour, aggregate=aggregate)
        place = min(bisect_right(before, max(0, number - sums.at(hour)[aggregate])) - 1, 59)
        return max(item.onboard_ms, hour * HOUR_MS + place * MINUTE_MS)

    def _of(self, item: Instrument) -> _Sums:
        found = self._sums.get(item)
        return found if found is not None else self._sums.put(item, _Sums(item, self._anchor))


def _negative(number: int) -> int:
    return -number
