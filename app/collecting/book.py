"""An order book held exactly: prices compare as integers, levels keep the exchange's texts."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from app.domain.exact import canonical

DECIMALS: Final = 18
"""Decimals of a price that can be told apart: more than any exchange prints."""
DELETED: Final = "0"
_ZEROS: Final = frozenset({DELETED, *("0." + "0" * digits for digits in range(DECIMALS + 1))})
_TEN_TO: Final = tuple(int("1" + "0" * exponent) for exponent in range(DECIMALS + 1))
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
    digits = whole + fraction
    if len(fraction) > DECIMALS or not digits.isdecimal() or not whole:
        raise ValueError(f"price {price[:40]!r} is not a plain decimal of at most {DECIMALS} decimals")
    return int(digits) * _TEN_TO[DECIMALS - len(fraction)]


def decimals_of(price: str) -> int:
    """How many decimals the text has."""
    return len(price.partition(".")[2])


class Side:
    """One side of a book: amounts by the canonical text of their price.

    `sign` is −1 for bids and 1 for asks: the best price is the lowest of `sign * ticks`.
    """

    __slots__ = ("_heap", "_keys", "_prices", "_sign", "amounts", "window")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: dict[str, tuple[int, str]] = {}
        self._prices: dict[int, str] = {}
        self._heap: list[int] = []
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
                rank, price = self._learn(text) if key is None else key
                if is_windowed and not self.window.low <= self._sign * rank <= self.window.high:
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
                    heappush(heap, rank)
                held[price] = amount
                changes.append(level)
        return changes

    def best(self) -> int | None:
        """The best price as an integer; None: no level stands."""
        held, heap, prices = self.amounts, self._heap, self._prices
        while heap and prices.get(heap[0]) not in held:
            heappop(heap)
        if len(heap) > 2 * len(held) + _HEAP_SLACK:
            self._heap = heap = [self._rank(price) for price in held]
            heapify(heap)
        return self._sign * heap[0] if heap else None

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
        return self._key(price)[0]

    def _key(self, text: str) -> tuple[int, str]:
        """The rank of a price, by which the best is the lowest, and its canonical text."""
        key = self._keys.get(text)
        return self._learn(text) if key is None else key

    def _learn(self, text: str) -> tuple[int, str]:
        if len(self._keys) >= _KEYS_MAX:
            self._keys.clear()
            self._prices = {rank: price for rank, price in self._prices.items() if price in self.amounts}
        rank, price = self._sign * ticks_of(text), canonical(text)
        key = self._keys[text] = (rank, price)
        self._prices[rank] = price
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
