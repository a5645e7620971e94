"""An order book held exactly: prices compare as integers, levels keep the exchange's texts."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from app.domain.records import Level

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
    """One side of a book. Levels are found by price as an integer, which stands for the canonical text.

    `sign` is −1 for bids and 1 for asks: the best price is the lowest of `sign * ticks`.
    """

    __slots__ = ("_heap", "_keys", "_sign", "levels", "window")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: dict[str, tuple[int, str | None]] = {}
        self._heap: list[int] = []
        self.levels: dict[int, Level] = {}
        self.window = EVERYWHERE

    def replace(self, levels: Iterable[Level], complete_below: int | None) -> None:
        """Hold exactly `levels`. If there are `complete_below` or more, only the prices among them are known."""
        self.levels = {}
        self._heap = []
        self.window = EVERYWHERE
        self.apply(levels, False)
        if complete_below is not None and len(self.levels) >= complete_below:
            farthest = max(self._sign * ticks for ticks in self.levels) * self._sign
            self.window = Window(low=farthest) if self._sign < 0 else Window(high=farthest)

    def apply(self, levels: Iterable[Level], is_delete_known: bool) -> list[Level]:
        """Set levels, or delete those with an amount of zero; return what really changed, in canonical texts.

        Levels outside the window are left out. UnknownDelete: only if `is_delete_known`.
        """
        held, keys, heap, sign = self.levels, self._keys, self._heap, self._sign
        low, high = self.window
        is_windowed = self.window is not EVERYWHERE
        changes = []
        for level in levels:
            text, amount = level
            try:
                ticks, price = keys[text]
            except KeyError:
                ticks, price = self._key(text)
            if is_windowed and not low <= ticks <= high:
                continue
            if amount in _ZEROS:
                if held.pop(ticks, None) is not None:
                    changes.append(level if price is None and amount == DELETED else Level(price or text, DELETED))
                elif is_delete_known:
                    raise UnknownDelete(text)
                continue
            if price is not None:
                level = Level(price, amount)
            if ticks not in held:
                heappush(heap, sign * ticks)
            elif held[ticks][1] == amount:
                continue
            held[ticks] = level
            changes.append(level)
        return changes

    def best(self) -> int | None:
        """The best price as an integer; None: no level stands."""
        held, heap, sign = self.levels, self._heap, self._sign
        while heap and sign * heap[0] not in held:
            heappop(heap)
        if len(heap) > 2 * len(held) + _HEAP_SLACK:
            self._heap = heap = [sign * ticks for ticks in held]
            heapify(heap)
        return sign * heap[0] if heap else None

    def sorted(self) -> tuple[Level, ...]:
        """The levels from the best price on."""
        held = self.levels
        return tuple([held[ticks] for ticks in sorted(held, reverse=self._sign < 0)])

    def difference(self, other: "Side") -> list[Level]:
        """The changes that make this side equal to `other`."""
        mine, theirs = self.levels, other.levels
        changes = [Level(level.price, DELETED) for ticks, level in mine.items() if ticks not in theirs]
        changes.extend(level for ticks, level in theirs.items() if mine.get(ticks) != level)
        return changes

    def _key(self, text: str) -> tuple[int, str | None]:
        """The price as an integer, and its canonical text if `text` is not."""
        if len(self._keys) >= _KEYS_MAX:
            self._keys.clear()
        price = canonical(text)
        key = self._keys[text] = (ticks_of(text), None if price == text else price)
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
