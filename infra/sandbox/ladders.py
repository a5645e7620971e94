"""The books of OKX and Deribit, step by step: the best levels, and what changed among them.

A book is derived from that of the step before where this is cached, so that following one is cheap.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple

from infra.sandbox.book import STEP_MS, Book, Level
from infra.sandbox.recent import Recent
from infra.sandbox.universe import Instrument

DEPTH_MAX: Final = 1_000  # levels a side of any book, at most
_BOOKS_MAX: Final = 64  # cached books, about 150 kB each
_DELTAS_MAX: Final = 512  # cached changes of a step, a few kB each

Side = dict[int, int]


class Best(NamedTuple):
    """The lots by price of the best levels, best first."""

    bids: Side
    asks: Side


class Change(NamedTuple):
    """One level with its lots before and after; 0: it was not, or is no longer, among the best levels."""

    price: int
    before: int
    after: int


class Delta(NamedTuple):
    """The changes of one step, best level first."""

    bids: list[Change]
    asks: list[Change]


class _Ladder:
    """The prices of one side in ascending order, and their lots."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self.lots = dict(levels)
        self.prices = sorted(self.lots)

    def changed(self, levels: Iterable[Level]) -> "_Ladder":
        other = object.__new__(_Ladder)
        other.lots, other.prices = self.lots.copy(), self.prices.copy()
        for price, lots in levels:
            if lots and price not in other.lots:
                insort(other.prices, price)
            elif not lots and price in other.lots:
                del other.prices[bisect_left(other.prices, price)]
            if lots:
                other.lots[price] = lots
            else:
                other.lots.pop(price, None)
        return other

    def without(self, is_out: Callable[[int], bool]) -> "_Ladder":
        """The ladder after the levels at its ends that are out of reach were removed, in place."""
        while self.prices and is_out(self.prices[0]):
            del self.lots[self.prices.pop(0)]
        while self.prices and is_out(self.prices[-1]):
            del self.lots[self.prices.pop()]
        return self

    def best(self, levels: int, *, descending: bool) -> Side:
        prices = reversed(self.prices) if descending else iter(self.prices)
        return {price: self.lots[price] for price in islice(prices, levels)}


class Ladders:
    """The books of all instruments."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._books: Recent[tuple[Instrument, int], tuple[_Ladder, _Ladder]] = Recent(_BOOKS_MAX)
        self._best: Recent[tuple[Instrument, int, int], Best] = Recent(_BOOKS_MAX)
        self._deltas: Recent[tuple[Instrument, int, int], Delta] = Recent(_DELTAS_MAX)

    def best(self, item: Instrument, step: int, levels: int) -> Best:
        """The best `levels` of both sides at `step`."""
        key = (item, step, levels)
        found = self._best.get(key)
        if found is None:
            bids, asks = self._at(item, step)
            found = Best(bids.best(levels, descending=True), asks.best(levels, descending=False))
            self._best.put(key, found)
        return found

    def delta(self, item: Instrument, step: int, levels: int) -> Delta:
        """What changed from the step before to `step` among the best `levels`."""
        key = (item, step, levels)
        found = self._deltas.get(key)
        if found is None:
            before, after = self.best(item, step - 1, levels), self.best(item, step, levels)
            bids, asks = _changes(before.bids, after.bids), _changes(before.asks, after.asks)
            found = self._deltas.put(key, Delta(bids[::-1], asks))
        return found

    def _at(self, item: Instrument, step: int) -> tuple[_Ladder, _Ladder]:
        found = self._books.get((item, step))
        if found is not None:
            return found
        before = self._books.get((item, step - 1))
        if before is not None:
            changes = self._book.changes(item, step - 1, step)
            bid, ask = (tick * item.tick_units for tick in self._book.best(item, step))
            reach = self._book.ticks * item.tick_units  # the book's changes do not name what gets out of it
            bids = before[0].changed(changes.bids).without(lambda price: price <= bid - reach)
            asks = before[1].changed(changes.asks).without(lambda price: price >= ask + reach)
            sides = bids, asks
        else:
            snapshot = self._book.snapshot(item, DEPTH_MAX, step * STEP_MS)
            sides = _Ladder(snapshot.bids), _Ladder(snapshot.asks)
        return self._books.put((item, step), sides)


def _changes(before: Side, after: Side) -> list[Change]:
    prices = {price for price, _ in before.items() ^ after.items()}
    return [Change(price, before.get(price, 0), after.get(price, 0)) for price in sorted(prices)]
