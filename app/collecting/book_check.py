"""The comparison of a held book with a fresh snapshot, at one and the same sequence number of the exchange.

From when the snapshot is asked for, the frames that the held book takes are kept. The snapshot's number S is the number
of one of them, or lies inside one; the frames after S, that one included, are applied to the snapshot as well, so that
both books are of the newest frame. Compared is each price that one of the two holds, unless it lies outside the window
of either, or a frame after S sets it: such a level says nothing about the held book before S. A level is equal if both
books hold the price with the same text of the amount. A snapshot that the kept frames do not join proves nothing.
"""

from random import Random
from typing import Final, NamedTuple

from app.collecting.book import Side, ticks_of
from app.collecting.book_chain import BookChain, BookRule, Broken
from app.collecting.feed_rules import NEVER_MS
from app.domain.exact import canonical
from app.domain.market_events import BookUpdate

FRAMES_MAX: Final = 2_000
"""Frames kept for one comparison: three minutes at ten a second, and a request is given up after one."""
AGAIN_MS: Final = 600_000
"""After a comparison that proved nothing, or a request that failed, the next one."""


class Comparison(NamedTuple):
    """How many levels were compared, and how many of them were equal."""

    compared: int
    equal: int


class BookChecks:
    """When a book is to be compared, the comparison that is under way, and what came of the newest one."""

    def __init__(self, rule: BookRule, chance: Random) -> None:
        self.due_ms = NEVER_MS
        self.newest: Comparison | None = None
        self.chain: BookChain | None = None
        """Of a comparison that is under way: the fresh snapshot, with the frames after it."""
        self._rule = rule
        self._chance = chance
        self._frames: list[BookUpdate] = []
        self._equal_ms = 0

    def plan(self, now_ms: int) -> None:
        """The book is held from now on; the first comparison is at a random time within the first interval."""
        if self._rule.compare_ms is not None and self.due_ms == NEVER_MS:
            self.due_ms = now_ms + int(self._rule.compare_ms * self._chance.uniform(0.0, 1.0))

    def start(self, active: BookChain, now_ms: int) -> None:
        """The snapshot is asked for now."""
        assert self._rule.compare_ms is not None, "only books that are to be compared are"
        self.due_ms = now_ms + self._rule.compare_ms
        self.chain = BookChain(active.socket, self._rule, is_streamed=False)

    def stop(self, now_ms: int) -> None:
        """End the comparison that is under way, if there is one, and begin another later."""
        if self.chain is not None:
            self._end()
            self.due_ms = min(self.due_ms, now_ms + AGAIN_MS)

    def take(self, update: BookUpdate, now_ms: int) -> None:
        """Take a frame that the held book has taken."""
        if self.chain is None:
            return
        self._frames.append(update)
        if isinstance(self.chain.take(update), Broken) or len(self._frames) > FRAMES_MAX:
            self.stop(now_ms)

    def begin(self, snapshot: BookUpdate, now_ms: int) -> None:
        """Take the snapshot."""
        if self.chain is not None and not self.chain.is_valid and self.chain.begin(snapshot) is not None:
            self.stop(now_ms)

    def result(self, active: BookChain) -> Comparison | None:
        """What came of the comparison, once both books are of the same frame; it is over then."""
        fresh = self.chain
        if fresh is None or not fresh.is_valid or fresh.last != active.last:
            return None
        later = [update for update in self._frames if update.last > fresh.start]
        bids = _compare(
            active.book.bids, fresh.book.bids, {canonical(price) for each in later for price, _ in each.bids}
        )
        asks = _compare(
            active.book.asks, fresh.book.asks, {canonical(price) for each in later for price, _ in each.asks}
        )
        self.newest = Comparison(bids.compared + asks.compared, bids.equal + asks.equal)
        if self.newest.equal == self.newest.compared:
            self._equal_ms = active.timestamp_ms
        self._end()
        return self.newest

    def trusted_ms(self, active: BookChain) -> int:
        """Until when (the exchange's time) the book was right for sure: its snapshot, or the last equal comparison."""
        return max(active.begun_ms, self._equal_ms)

    def _end(self) -> None:
        self.chain, self._frames = None, []


def _compare(held: Side, fresh: Side, left_out: set[str]) -> Comparison:
    low, high = max(held.window.low, fresh.window.low), min(held.window.high, fresh.window.high)
    mine, theirs = (
        {
            price: amount
            for price, amount in side.amounts.items()
            if price not in left_out and low <= ticks_of(price) <= high
        }
        for side in (held, fresh)
    )
    prices = mine.keys() | theirs.keys()
    return Comparison(len(prices), sum(mine.get(price) == theirs.get(price) for price in prices))
