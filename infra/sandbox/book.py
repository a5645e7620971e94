"""The order book of a symbol as a function of time.

The book changes in steps of 100 ms. Best bid and ask are next to the last price. Each side has a thousand ticks (or
Options.book_ticks), whose lots are drawn from a hash and drawn again every 6.4 s: a sixty-fourth of the ticks at every
step, so that the changes of a step are found without comparing two books. An update id is the step times `_IDS_A_STEP`.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from infra.sandbox.grid import SECOND_MS
from infra.sandbox.market import Market
from infra.sandbox.noise import chance
from infra.sandbox.universe import Instrument

STEP_MS: Final = 100
LATE_STEPS_MAX: Final = 600  # a stream that got no update for so long (a minute) continues with a break in its chain
_IDS_A_STEP: Final = 16
_CYCLE: Final = 64  # steps after which a tick's lots are drawn again
_EMPTY_OF_64: Final = 6
_MASK: Final = (1 << 64) - 1

Level = tuple[int, int]


class Best(NamedTuple):
    """Best bid and ask, in ticks."""

    bid: int
    ask: int


class Snapshot(NamedTuple):
    """The best levels of both sides as (price, lots) in the symbol's units."""

    update_id: int
    time_ms: int
    bids: list[Level]
    asks: list[Level]


class Changes(NamedTuple):
    """The changes from the book after update `before_id` to the book after `last_id`."""

    before_id: int
    last_id: int
    time_ms: int
    bids: list[Level]
    asks: list[Level]


def step_at(now_ms: int) -> int:
    """The number of the step at `now_ms`."""
    return now_ms // STEP_MS


def update_id(step: int) -> int:
    """The id of the last update of a step."""
    return step * _IDS_A_STEP


class Book:
    """The books of all symbols."""

    def __init__(self, market: Market, ticks: int) -> None:
        self._market = market
        self.ticks = ticks

    def best(self, item: Instrument, step: int) -> Best:
        """Best bid and ask at `step`: the last price, and one to three ticks away from it."""
        last = self._market.minute_now(item, step * STEP_MS).close // item.tick_units
        bits = chance(f"{item.uid}/spread/{step * STEP_MS // SECOND_MS}")
        spread = 1 + (bits >> 1) % 3 // 2
        return Best(last, last + spread) if bits & 1 else Best(max(1, last - spread), max(2, last))

    def snapshot(self, item: Instrument, levels: int, now_ms: int) -> Snapshot:
        """The best `levels` of both sides at `now_ms`."""
        step = step_at(now_ms)
        best, key = self.best(item, step), _key(item)
        bids = _held(item, key, range(best.bid, max(0, best.bid - self.ticks), -1), step, best.bid, levels)
        asks = _held(item, key, range(best.ask, best.ask + self.ticks), step, best.ask, levels)
        return Snapshot(update_id(step), step * STEP_MS, bids, asks)

    def changes(self, item: Instrument, after: int, until: int) -> Changes:
        """The levels changed in the steps after `after`, with their lots at `until`; 0 lots: the level was removed.

        After more than LATE_STEPS_MAX steps, only those of the last step: `before_id` then shows that updates are
        missing.
        """
        if until - after > LATE_STEPS_MAX:
            after = until - 1
        bids, asks = self._touched(item, after, until)
        best, key = self.best(item, until), _key(item)
        told_bids = [
            (
                tick * item.tick_units,
                _lots(item, key, tick, until, best.bid) if 0 <= best.bid - tick < self.ticks else 0,
            )
            for tick in sorted(bids, reverse=True)
        ]
        told_asks = [
            (
                tick * item.tick_units,
                _lots(item, key, tick, until, best.ask) if 0 <= tick - best.ask < self.ticks else 0,
            )
            for tick in sorted(asks)
        ]
        return Changes(update_id(after), update_id(until), until * STEP_MS, told_bids, told_asks)

    def _touched(self, item: Instrument, after: int, until: int) -> tuple[set[int], set[int]]:
        bids: set[int] = set()
        asks: set[int] = set()
        before = self.best(item, after)
        for step in range(after + 1, until + 1):
            best = self.best(item, step)
            # the sides mirror each other: an ask is a bid of the negative tick
            bids.update(self._side(before.bid, best.bid, step, 1))
            asks.update(-tick for tick in self._side(-before.ask, -best.ask, step, -1))
            before = best
        return {tick for tick in bids if tick > 0}, asks

    def _side(self, before: int, best: int, step: int, sign: int) -> Iterable[int]:
        """The ticks of a bid side that change in a step: drawn again, removed, or new within reach."""
        low = best - self.ticks + 1
        first = low + (sign * step - low) % _CYCLE
        touched = set(range(first, best + 1, _CYCLE))
        if before != best:
            touched.update((before, best))
            touched.update(range(max(before, low - 1) + 1, best + 1))  # added at the top
            touched.update(range(low, min(before - self.ticks, best) + 1))  # added at the bottom
            touched.update(range(best + 1, before + 1))  # removed at the top
            touched.update(range(before - self.ticks + 1, min(low, before + 1)))  # removed at the bottom
        return touched


def _held(item: Instrument, key: int, ticks: Iterable[int], step: int, best: int, levels: int) -> list[Level]:
    found: list[Level] = []
    for tick in ticks:
        if lots := _lots(item, key, tick, step, best):
            found.append((tick * item.tick_units, lots))
            if len(found) == levels:
                break
    return found


def _key(item: Instrument) -> int:
    return chance(f"{item.uid}/book")


def _lots(item: Instrument, key: int, tick: int, step: int, best: int) -> int:
    """The lots at a tick; at the best one never 0."""
    drawn = (step - tick) // _CYCLE
    bits = (key ^ tick * 0x9E3779B97F4A7C15 ^ drawn * 0xC2B2AE3D27D4EB4F) & _MASK
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _MASK
    bits ^= bits >> 31
    if bits & 63 < _EMPTY_OF_64 and tick != best:
        return 0
    return 1 + (item.lots_a_trade * (1 + (bits >> 6 & 63)) >> 2)
