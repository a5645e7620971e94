"""The values derived from the price: index, mark and premium, their candles, and open interest.

All have eight decimals. index = price × (1 + a factor of the minute, within ± 0.03 %), and mark = index × (1 + the
premium at the minute's start). So a minute's candle of mark or index follows from its candle of trades and the price
before it, and any price in a stream or in premiumIndex lies within that candle.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from infra.sandbox.candles import Candle
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from infra.sandbox.market import Market
from infra.sandbox.noise import chance
from infra.sandbox.recent import Recent
from infra.sandbox.universe import Instrument

PLACES: Final = 8
ONE: Final = int("1" + "0" * PLACES)
KINDS: Final = ("index", "mark", "premium")
_SAMPLES_A_MINUTE = 60
_PERIODS_MAX = 100_000  # cached candles of hours and days
_OPEN_INTEREST_STEP_MS = 5 * MINUTE_MS
_STATED_EVERY_MS = 5 * MINUTE_MS  # fundings and statistics state the mark price of such moments, again and again
_STATED_MAX = 50_000  # cached ones


class Sampled(NamedTuple):
    """A candle of sampled values with eight decimals."""

    open: int
    high: int
    low: int
    close: int
    samples: int


def roll_samples(parts: Iterable[Sampled]) -> Sampled:
    """One candle from consecutive ones."""
    held = list(parts)
    assert held, "a bucket has at least one part"
    return Sampled(
        held[0].open,
        max(part.high for part in held),
        min(part.low for part in held),
        held[-1].close,
        sum(part.samples for part in held),
    )


class Marks:
    """Index, mark, premium and open interest of any symbol at any time."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._periods: Recent[tuple[str, Instrument, int, int], Sampled] = Recent(_PERIODS_MAX)
        self._stated: Recent[tuple[Instrument, int], int] = Recent(_STATED_MAX)

    def premium(self, item: Instrument, now_ms: int) -> int:
        """The premium index, interpolated linearly within a minute."""
        open_ms, into_ms = now_ms // MINUTE_MS * MINUTE_MS, now_ms % MINUTE_MS
        start, end = _premium(item, open_ms), _premium(item, open_ms + MINUTE_MS)
        return start + (end - start) * (into_ms // SECOND_MS) // _SAMPLES_A_MINUTE

    def index(self, item: Instrument, now_ms: int) -> int:
        """The index price."""
        return _index(item, now_ms, self._market.minute_now(item, now_ms).close)

    def mark(self, item: Instrument, now_ms: int) -> int:
        """The mark price."""
        if now_ms % _STATED_EVERY_MS:
            return _mark(item, now_ms, self._market.minute_now(item, now_ms).close)
        found = self._stated.get((item, now_ms))
        if found is None:
            found = self._stated.put((item, now_ms), _mark(item, now_ms, self._market.minute_now(item, now_ms).close))
        return found

    @staticmethod
    def of_price(item: Instrument, time_ms: int, price: int) -> tuple[int, int]:
        """Index and mark price when the last trade has `price`."""
        return _index(item, time_ms, price), _mark(item, time_ms, price)

    def average(self, item: Instrument, now_ms: int) -> int:
        """The moving average of the mark price: the mean of now and a minute ago."""
        before_ms = max(item.onboard_ms, now_ms - MINUTE_MS)
        return (self.mark(item, now_ms) + self.mark(item, before_ms)) // 2

    def candle(self, item: Instrument, kind: str, interval: str, open_ms: int, now_ms: int) -> Sampled:
        """The candle of `kind` that opens at `open_ms`, as far as it is known at `now_ms`."""
        end_ms = item.grid(interval).next(open_ms)
        time_ms, whole_ms = max(open_ms, item.onboard_ms), min(end_ms, now_ms // MINUTE_MS * MINUTE_MS)
        parts: list[Sampled] = []
        while time_ms < whole_ms:
            for size_ms in (DAY_MS, HOUR_MS, MINUTE_MS):
                if time_ms % size_ms == 0 and time_ms + size_ms <= whole_ms:
                    parts.append(self._period(item, kind, time_ms, size_ms))
                    time_ms += size_ms
                    break
        if end_ms > now_ms:
            parts.append(self._minute(item, kind, time_ms, self._market.minute_now(item, now_ms), now_ms))
        return roll_samples(parts)

    def open_interest(self, item: Instrument, now_ms: int) -> int:
        """The open interest in lots, which changes every five minutes."""
        if item.status(now_ms) != "TRADING":
            return 0
        step = now_ms // _OPEN_INTEREST_STEP_MS
        usual = item.trades_a_minute * item.lots_a_trade * 600 + 1_000
        return usual * (900_000 + _between(f"{item.uid}/open", step, 48, 200_000)) // 1_000_000

    def _period(self, item: Instrument, kind: str, open_ms: int, size_ms: int) -> Sampled:
        if size_ms == MINUTE_MS:
            candle = self._market.block(item, open_ms).minute(open_ms)[0]
            return self._minute(item, kind, open_ms, candle, open_ms + MINUTE_MS - 1)
        key = (kind, item, open_ms, size_ms)
        found = self._periods.get(key)
        if found is None:
            part_ms = HOUR_MS if size_ms == DAY_MS else MINUTE_MS
            opens = range(open_ms, open_ms + size_ms, part_ms)
            found = self._periods.put(key, roll_samples(self._period(item, kind, each, part_ms) for each in opens))
        return found

    def _minute(self, item: Instrument, kind: str, open_ms: int, candle: Candle, now_ms: int) -> Sampled:
        samples = (now_ms - open_ms) // SECOND_MS + 1
        if kind == "premium":
            start, last = _premium(item, open_ms), self.premium(item, now_ms)
            return Sampled(start, max(start, last), min(start, last), last, samples)
        value = _index if kind == "index" else _mark
        before = self._market.block(item, open_ms).minute(open_ms)[2]
        first, close = value(item, open_ms, before), value(item, open_ms, candle.close)
        high = first if not candle.trades else max(first, value(item, open_ms, candle.high))
        low = first if not candle.trades else min(first, value(item, open_ms, candle.low))
        return Sampled(first, high, low, close, samples)


def _index(item: Instrument, time_ms: int, price: int) -> int:
    scaled = price * int("1" + "0" * (PLACES - item.price_precision))
    return scaled * (1_000_000 + chance(f"{item.pair}/index/{time_ms // MINUTE_MS}") % 601 - 300) // 1_000_000


def _mark(item: Instrument, time_ms: int, price: int) -> int:
    return _index(item, time_ms, price) * (ONE + _premium(item, time_ms // MINUTE_MS * MINUTE_MS)) // ONE


@lru_cache(maxsize=65_536)
def _premium(item: Instrument, minute_ms: int) -> int:
    return chance(f"{item.uid}/premium/{minute_ms // MINUTE_MS}") % 120_001 - 60_000


def _between(key: str, step: int, every: int, width: int) -> int:
    """A number in [0, width), interpolated linearly between multiples of `every` steps."""
    index, offset = divmod(step, every)
    left, right = chance(f"{key}/{index}") % width, chance(f"{key}/{index + 1}") % width
    return left + (right - left) * offset // every
