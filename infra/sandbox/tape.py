"""The trades of a symbol, single and aggregated, whose sums are its candles. Their numbers are consecutive."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from infra.sandbox.candles import QUANTUM_MS, Walk
from infra.sandbox.grid import HOUR_MS, MINUTE_MS
from infra.sandbox.market import Market
from infra.sandbox.numbers import aggregates_of
from infra.sandbox.recent import Recent
from infra.sandbox.universe import Instrument

_MINUTES_MAX = 128  # cached minutes of trades, up to 0.5 MB each for the busiest symbol
_SEARCH_HOURS_MAX: Final = 24 * 4  # the newest trade is searched for so far back; quiet symbols trade at least daily


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
    """The id of the first trade at or after the minute `open_ms`."""
    return market.numbers.first(item, open_ms)


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

    def published(self, item: Instrument, open_ms: int, now_ms: int) -> int:
        """How many trades of the minute are published by `now_ms`."""
        walk = self._walk(item, open_ms)
        if walk is None or now_ms < open_ms:
            return 0
        return walk.trades if now_ms >= open_ms + MINUTE_MS else walk.trades_at((now_ms - open_ms) // QUANTUM_MS)

    def part(self, item: Instrument, open_ms: int, low: int, high: int) -> list[Trade]:
        """The trades of a minute from place `low` (from 0) to before `high`, computed without the others."""
        walk = self._walk(item, open_ms)
        return [] if walk is None else list(_trades(walk, open_ms, first_id(self._market, item, open_ms), low, high))

    def numbered(self, item: Instrument, first: int, last: int, now_ms: int) -> Iterator[Trade]:
        """The trades published by `now_ms` whose number is in [first, last], oldest first."""
        numbers = self._market.numbers
        open_ms = numbers.minute_of(item, first, item.onboard_ms, now_ms, aggregate=False)
        while open_ms <= now_ms and (number := numbers.first(item, open_ms)) <= last:
            high = min(self.published(item, open_ms, now_ms), last + 1 - number)
            yield from self.part(item, open_ms, max(0, first - number), high)
            open_ms += MINUTE_MS

    def newest_number(self, item: Instrument, now_ms: int) -> int:
        """The number of the newest trade published by `now_ms`; one less than the first if there is none."""
        open_ms = max(now_ms, item.onboard_ms) // MINUTE_MS * MINUTE_MS
        return first_id(self._market, item, open_ms) + self.published(item, open_ms, now_ms) - 1

    def aggregates(self, item: Instrument, open_ms: int, now_ms: int) -> list[Aggregate]:
        """The aggregates of a minute whose trades are all published; some have two trades of one price and side."""
        trades = self.minute(item, open_ms)
        walk = self._walk(item, open_ms) if trades else None
        if walk is None:
            return []
        seen = self.published(item, open_ms, now_ms)
        starts = _starts(walk)
        number = self._market.numbers.first(item, open_ms, aggregate=True)
        ends = [*starts[1:], walk.trades]
        parts = (trades[start:end] for start, end in zip(starts, ends, strict=True) if end <= seen)
        return [
            Aggregate(number + place, part[0].price, sum(trade.lots for trade in part), part[0].number,
                      part[-1].number, part[0].time_ms, part[0].maker)
            for place, part in enumerate(parts)
        ]  # fmt: skip

    def minute_of(self, item: Instrument, number: int, since_ms: int, now_ms: int, *, aggregate: bool) -> int:
        """The open time of the minute since `since_ms` that contains id `number`, or of the nearest one."""
        return self._market.numbers.minute_of(item, number, since_ms, now_ms, aggregate=aggregate)

    def _walk(self, item: Instrument, open_ms: int) -> Walk | None:
        if not item.onboard_ms <= open_ms < item.delivery_ms or item.pending:
            return None
        return self._market.block(item, open_ms).minute(open_ms)[1]


def _trades(walk: Walk, open_ms: int, number: int, low: int = 0, high: int = 1 << 62) -> Iterator[Trade]:
    """The trades of a minute from place `low` to before `high`; `number` is that of its first."""
    done = 0
    for run in walk.runs():
        begin, end = max(low, done), min(high, done + run.trades)
        sold = run.lots * max(0, begin - done) // run.trades
        for place in range(begin, end):
            upto = run.lots * (place + 1 - done) // run.trades
            yield Trade(number + place, run.price, upto - sold, open_ms + walk.trade_ms(place + 1), not run.bought)
            sold = upto
        done += run.trades


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


def _starts(walk: Walk) -> list[int]:
    """The places at which an aggregate begins. Pairs at the begin of a run are merged, a third of each run at most."""
    starts: list[int] = []
    merges, done = walk.trades - aggregates_of(walk.trades), 0
    for run in walk.runs():
        pairs = min(run.trades // 2, 1 + run.trades // 3, merges)
        starts.extend(range(done, done + 2 * pairs, 2))
        starts.extend(range(done + 2 * pairs, done + run.trades))
        merges, done = merges - pairs, done + run.trades
    assert not merges, "runs have room for all pairs"
    return starts
