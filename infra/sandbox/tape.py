"""The trades of a symbol, single and aggregated, whose sums are its candles.

Ids are consecutive within a UTC hour and jump from one hour to the next, so that the id of any trade is computed
without counting from the listing on.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from infra.sandbox.candles import QUANTUM_MS, Walk
from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.market import Market, Recent
from infra.sandbox.universe import Instrument

IDS_AN_HOUR: Final = 1_000_000  # above the most trades in an hour: 60 × 4,801 of the busiest symbol
_MINUTES_MAX = 128  # cached minutes of trades, up to 0.5 MB each for the busiest symbol
_HOURS_MAX = 4_096  # cached hours of aggregate counts
_SEARCH_HOURS_MAX = 24 * 4  # the newest trade is searched for so far back; a quiet symbol trades at least once a day


class Trade(NamedTuple):
    """One trade; price and quantity in the symbol's units."""

    number: int
    price: int
    lots: int
    time_ms: int
    maker: bool


class Aggregate(NamedTuple):
    """Consecutive trades of one price and side, published together."""

    number: int
    price: int
    lots: int
    first: int
    last: int
    time_ms: int
    maker: bool


def first_id(market: Market, item: Instrument, open_ms: int) -> int:
    """The id of the first trade at or after the minute `open_ms`, within its hour."""
    return open_ms // HOUR_MS * IDS_AN_HOUR + market.block(item, open_ms).trades_before(open_ms)


def ids_within(market: Market, item: Instrument, start_ms: int, end_ms: int) -> tuple[int, int]:
    """The ids of the first and last trade of the minutes that open in [start_ms, end_ms), which must have trades."""
    minutes = range(max(start_ms, item.onboard_ms), min(end_ms, item.delivery_ms), MINUTE_MS)
    first_ms = next(open_ms for open_ms in minutes if market.block(item, open_ms).minute(open_ms)[0].trades)
    for last_ms in reversed(minutes):
        trades = market.block(item, last_ms).minute(last_ms)[0].trades
        if trades:
            break
    return first_id(market, item, first_ms), first_id(market, item, last_ms) + trades - 1


class Tape:
    """Trades by time and by id: pure functions with bounded caches."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._trades: Recent[tuple[Instrument, int], list[Trade]] = Recent(_MINUTES_MAX)
        self._counts: Recent[tuple[Instrument, int], list[int]] = Recent(_HOURS_MAX)

    def minute(self, item: Instrument, open_ms: int) -> list[Trade]:
        """All trades of the minute, in order; none before the listing or after the delivery."""
        if not item.onboard_ms <= open_ms < item.delivery_ms or item.pending:
            return []
        found = self._trades.get((item, open_ms))
        if found is None:
            walk = self._market.block(item, open_ms).minute(open_ms)[1]
            trades = list(_trades(walk, open_ms, first_id(self._market, item, open_ms))) if walk else []
            found = self._trades.put((item, open_ms), trades)
        return found

    def seen(self, item: Instrument, open_ms: int, now_ms: int) -> list[Trade]:
        """The trades of the minute published by `now_ms`: those in the candle in progress."""
        trades = self.minute(item, open_ms)
        if now_ms >= open_ms + MINUTE_MS or not trades:
            return trades
        walk = self._market.block(item, open_ms).minute(open_ms)[1]
        assert walk is not None, "a minute with trades has a walk"
        return trades[: walk.trades_at((now_ms - open_ms) // QUANTUM_MS)]

    def forwards(self, item: Instrument, start_ms: int, now_ms: int) -> Iterator[list[Trade]]:
        """The published trades from the minute of `start_ms` on, minute by minute."""
        start_ms = max(start_ms, item.onboard_ms) // MINUTE_MS * MINUTE_MS
        for open_ms in range(start_ms, min(now_ms + 1, item.delivery_ms), MINUTE_MS):
            yield self.seen(item, open_ms, now_ms)

    def backwards(self, item: Instrument, end_ms: int, now_ms: int) -> Iterator[list[Trade]]:
        """The published trades of the minute of `end_ms` and earlier ones, newest minute first."""
        newest_ms = min(end_ms, now_ms, item.delivery_ms - 1) // MINUTE_MS * MINUTE_MS
        oldest_ms = max(item.onboard_ms, newest_ms - _SEARCH_HOURS_MAX * HOUR_MS)
        for open_ms in range(newest_ms, oldest_ms - 1, -MINUTE_MS):
            yield self.seen(item, open_ms, now_ms)

    def latest(self, item: Instrument, limit: int, now_ms: int) -> list[Trade]:
        """The newest `limit` trades, oldest first."""
        parts: list[list[Trade]] = []
        for trades in self.backwards(item, now_ms, now_ms):
            parts.append(trades)
            limit -= len(trades)
            if limit <= 0:
                break
        found = [trade for part in reversed(parts) for trade in part]
        return found[max(0, -limit) :]

    def last(self, item: Instrument, now_ms: int) -> Trade | None:
        """The newest trade, computed without the other trades of its minute; None if there is none in reach."""
        newest_ms = min(now_ms, item.delivery_ms - 1) // MINUTE_MS * MINUTE_MS
        oldest_ms = max(item.onboard_ms, newest_ms - _SEARCH_HOURS_MAX * HOUR_MS)
        for open_ms in range(newest_ms, oldest_ms - 1, -MINUTE_MS):
            walk = self._market.block(item, open_ms).minute(open_ms)[1]
            done = 0 if walk is None else min(walk.trades, walk.trades_at((now_ms - open_ms) // QUANTUM_MS))
            if walk is not None and done:
                return _nth(walk, open_ms, first_id(self._market, item, open_ms), done)
        return None

    def aggregates(self, item: Instrument, open_ms: int, now_ms: int) -> list[Aggregate]:
        """The published trades of a minute, aggregated; an aggregate ends when price, side or quantum changes."""
        seen = self.seen(item, open_ms, now_ms)
        if not seen:
            return []
        hour_ms = open_ms // HOUR_MS * HOUR_MS
        number = (
            open_ms // HOUR_MS * IDS_AN_HOUR + self._aggregates_before(item, hour_ms)[(open_ms - hour_ms) // MINUTE_MS]
        )
        starts = _starts(seen)
        parts = (seen[start:end] for start, end in zip(starts, [*starts[1:], len(seen)], strict=True))
        return [
            Aggregate(number + place, part[0].price, sum(trade.lots for trade in part), part[0].number,
                      part[-1].number, part[0].time_ms, part[0].maker)
            for place, part in enumerate(parts)
        ]  # fmt: skip

    def minute_of(self, item: Instrument, number: int, *, aggregate: bool) -> int:
        """The open time of the minute that contains id `number`, or of the first minute after it."""
        hour, place = divmod(number, IDS_AN_HOUR)
        hour_ms = hour * HOUR_MS
        if hour_ms + HOUR_MS <= item.onboard_ms:
            return item.onboard_ms
        if aggregate:
            before = self._aggregates_before(item, hour_ms)
        else:
            block = self._market.block(item, hour_ms)
            before = [block.trades_before(hour_ms + i * MINUTE_MS) for i in range(61)]
        return hour_ms + max(0, bisect_left(before, place + 1) - 1) * MINUTE_MS

    def _aggregates_before(self, item: Instrument, hour_ms: int) -> list[int]:
        """The number of aggregates in the hour before each of its minutes, and at last of the whole hour."""
        found = self._counts.get((item, hour_ms))
        if found is None:
            opens = range(hour_ms, hour_ms + HOUR_MS, MINUTE_MS)
            found = [0, *accumulate(len(_starts(self.minute(item, open_ms))) for open_ms in opens)]
            found = self._counts.put((item, hour_ms), found)
        return found


def _trades(walk: Walk, open_ms: int, number: int) -> Iterator[Trade]:
    done = 0
    for run in walk.runs():
        sold = 0
        for place in range(1, run.trades + 1):
            upto = run.lots * place // run.trades
            yield Trade(number + done, run.price, upto - sold, open_ms + walk.trade_ms(done + 1), maker=not run.bought)
            sold, done = upto, done + 1


def _nth(walk: Walk, open_ms: int, number: int, nth: int) -> Trade:
    """Trade `nth` (from 1) of a minute whose first trade is `number`."""
    before = 0
    for run in walk.runs():
        place = nth - before
        if place <= run.trades:
            lots = run.lots * place // run.trades - run.lots * (place - 1) // run.trades
            return Trade(number + nth - 1, run.price, lots, open_ms + walk.trade_ms(nth), maker=not run.bought)
        before += run.trades
    raise AssertionError(f"a walk of {walk.trades} trades has no trade {nth}")


def _starts(trades: list[Trade]) -> list[int]:
    """The indexes at which an aggregate begins."""
    starts: list[int] = []
    last: tuple[int, bool, int] | None = None
    for place, trade in enumerate(trades):
        key = (trade.price, trade.maker, trade.time_ms // QUANTUM_MS)
        if key != last:
            starts.append(place)
            last = key
    return starts
