"""An order book held exactly: prices compare as integers, levels keep the exchange's texts."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

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


def canonical(text: str) -> str:
    """The decimal without trailing zeros of its fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text


class Side:
    """One side of a book. Levels are found by the canonical text of their price.

    `sign` is −1 for bids and 1 for asks: the best price is the lowest of `sign * ticks`. A level is kept as the pair
    that the frame brought: most frames change some tens of them, and to make each anew would take half of the time.
    """

    __slots__ = ("_heap", "_keys", "_sign", "levels", "window")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: dict[str, tuple[int, str]] = {}
        self._heap: list[tuple[int, str]] = []
        self.levels: dict[str, tuple[str, str]] = {}
        self.window = EVERYWHERE

    def replace(self, levels: Iterable[tuple[str, str]], complete_below: int | None) -> None:
        """Hold exactly `levels`. If there are `complete_below` or more, only the prices among them are known."""
        self.levels = {}
        self._heap = []
        self.window = EVERYWHERE
        self.apply(levels, False)
        if complete_below is not None and len(self.levels) >= complete_below:
            farthest = max(self._sign * self._key(price)[0] for price in self.levels) * self._sign
            self.window = Window(low=farthest) if self._sign < 0 else Window(high=farthest)

    def apply(self, levels: Iterable[tuple[str, str]], is_delete_known: bool) -> list[tuple[str, str]]:
        """Set levels, or delete those with an amount of zero; return what really changed, with canonical prices.

        Levels outside the window are left out. UnknownDelete: only if `is_delete_known`.
        """
        held, zeros = self.levels, _ZEROS
        changes = []
        for level in levels:
            text, amount = level
            before = held.get(text)
            if before is None:
                level = self._found(level, is_delete_known)
                if level is not None:
                    changes.append(level)
            elif amount in zeros:
                del held[text]
                changes.append((text, DELETED))
            elif before[1] != amount:
                held[text] = level
                changes.append(level)
        return changes

    def best(self) -> int | None:
        """The best price as an integer; None: no level stands."""
        held, heap, sign = self.levels, self._heap, self._sign
        while heap and heap[0][1] not in held:
            heappop(heap)
        if len(heap) > 2 * len(held) + _HEAP_SLACK:
            self._heap = heap = [(sign * self._key(price)[0], price) for price in held]
            heapify(heap)
        return sign * heap[0][0] if heap else None

    def sorted(self) -> tuple[tuple[str, str], ...]:
        """The levels from the best price on."""
        held, key = self.levels, self._key
        return tuple([held[price] for price in sorted(held, key=lambda price: self._sign * key(price)[0])])

    def difference(self, other: "Side") -> list[tuple[str, str]]:
        """The changes that make this side equal to `other`."""
        mine, theirs = self.levels, other.levels
        changes = [(price, DELETED) for price in mine if price not in theirs]
        changes.extend(level for price, level in theirs.items() if mine.get(price) != level)
        return changes

    def _found(self, level: tuple[str, str], is_delete_known: bool) -> tuple[str, str] | None:
        """Apply a level whose price, as it is written, is not held; return what changed."""
        text, amount = level
        ticks, price = self._key(text)
        low, high = self.window
        if not low <= ticks <= high:
            return None
        held = self.levels
        before = held.get(price)
        if amount in _ZEROS:
            if before is None:
                if is_delete_known:
                    raise UnknownDelete(text)
                return None
            del held[price]
            return price, DELETED
        if before is None:
            heappush(self._heap, (self._sign * ticks, price))
        elif before[1] == amount:
            return None
        held[price] = found = level if price == text else (price, amount)
        return found

    def _key(self, text: str) -> tuple[int, str]:
        """The price as an integer, and its canonical text."""
        key = self._keys.get(text)
        if key is None:
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            key = self._keys[text] = (ticks_of(text), canonical(text))
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
        windowed = [len(side.levels) for side in (self.bids, self.asks) if side.window is not EVERYWHERE]
        return min(windowed, default=1 << 30)
