"""An order book held exactly: prices compare as integers, levels keep the exchange's texts."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from app.domain.exact import canonical

DECIMALS: Final = 18
"""Decimals of a price that can be told apart: more than any exchange prints."""
DELETED: Final = "0"
_ZEROS: Final = frozenset({DELETED, *("0." + "0" * digits for digits in range(DECIMALS + 1))})
_KEYS_MAX: Final = 200_000  # remembered texts of prices of one side: some MB, and days of a busy book
_HEAP_SLACK: Final = 1_000  # entries of deleted levels that the heap of best prices may hold beside the living ones


class UnknownDelete(Exception):
    """A frame deletes a level that is not in the book, where the exchange's rule forbids that."""


class Window(NamedTuple):
    """The prices, as integers, between which a side is known to be complete; both ends belong to it."""

    low: int = 0
    high: int = 1 << 200


EVERYWHERE: Final = Window()


def ticks_of(price: str) -> int:
    """The price as an integer number of 10^-18. ValueError: it is no plain decimal, or has too many decimals."""
    whole, _, fraction = price.partition(".")
    if len(fraction) > DECIMALS or not (whole + fraction).isdecimal() or not whole:
        raise ValueError(f"price {price[:40]!r} is not a plain decimal of at most {DECIMALS} decimals")
    return int(whole + fraction.ljust(DECIMALS, "0"))


class _Key(NamedTuple):
    """What is known of a price's text: the entry of the heap of best prices, and its canonical text."""

    entry: tuple[int, str]
    price: str


class Side:
    """One side of a book: amounts by the canonical text of their price.

    `sign` is −1 for bids and 1 for asks: the best price is the lowest of `sign * ticks`.
    """

    __slots__ = ("_heap", "_keys", "_sign", "amounts", "window")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: dict[str, _Key] = {}
        self._heap: list[tuple[int, str]] = []
        self.amounts: dict[str, str] = {}
        self.window = EVERYWHERE

    def replace(self, levels: Iterable[tuple[str, str]], complete_below: int | None) -> None:
        """Hold exactly `levels`. If there are `complete_below` or more, only the prices among them are known."""
        self.amounts = {}
        self._heap = []
        self.window = EVERYWHERE
        self.apply(levels, False)
        if complete_below is not None and len(self.amounts) >= complete_below:
            farthest = max(map(self._rank, self.amounts)) * self._sign
            self.window = Window(low=farthest) if self._sign < 0 else Window(high=farthest)

    def apply(self, levels: Iterable[tuple[str, str]], is_delete_known: bool) -> list[tuple[str, str]]:
        """Set levels, or delete those with an amount of zero; return what really changed, with canonical prices.

        Levels outside the window are left out. UnknownDelete: only if `is_delete_known`. This is most of the work on a
        book, therefore the pair of the frame is what is returned where it can be.
        """
        held, keys, heap, zeros = self.amounts, self._keys, self._heap, _ZEROS
        is_windowed = self.window is not EVERYWHERE
        changes = []
        for level in levels:
            text, amount = level
            before = held.get(text)
            if before is None:
                key = keys.get(text)
                entry, price = self._key(text) if key is None else key
                if is_windowed and not self.window.low <= self._sign * entry[0] <= self.window.high:
                    continue
                if price != text:
                    level = (price, amount)
                    before = held.get(price)
            else:
                price = text
            if amount in zeros:
                if before is not None:
                    del held[price]
                    changes.append((price, DELETED))
                elif is_delete_known:
                    raise UnknownDelete(text)
            elif before != amount:
                if before is None:
                    heappush(heap, entry)
                held[price] = amount
                changes.append(level)
        return changes

    def best(self) -> int | None:
        """The best price as an integer; None: no level stands."""
        held, heap = self.amounts, self._heap
        while heap and heap[0][1] not in held:
            heappop(heap)
        if len(heap) > 2 * len(held) + _HEAP_SLACK:
            self._heap = heap = [self._key(price).entry for price in held]
            heapify(heap)
        return self._sign * heap[0][0] if heap else None

    def sorted(self) -> tuple[tuple[str, str], ...]:
        """The levels from the best price on."""
        return tuple(sorted(self.amounts.items(), key=lambda level: self._rank(level[0])))

    def difference(self, other: "Side") -> list[tuple[str, str]]:
        """The changes that make this side equal to `other`."""
        mine, theirs = self.amounts, other.amounts
        changes = [(price, DELETED) for price in mine if price not in theirs]
        changes.extend(level for level in theirs.items() if mine.get(level[0]) != level[1])
        return changes

    def _rank(self, price: str) -> int:
        return self._key(price).entry[0]

    def _key(self, text: str) -> _Key:
        key = self._keys.get(text)
        if key is None:
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            price = canonical(text)
            key = self._keys[text] = _Key((self._sign * ticks_of(text), price), price)
        return key


class Book:
    """Both sides of a book."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = Side(-1)
        self.asks = Side(1)

    def is_crossed(self) -> bool:
        """Whether the best bid reaches the best ask, which never stands after a whole frame."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid >= ask

    def levels_min(self) -> int:
        """How many levels the thinner one of the sides that are not complete holds; a large number if both are."""
        windowed = [len(side.amounts) for side in (self.bids, self.asks) if side.window is not EVERYWHERE]
        return min(windowed, default=1 << 30)
