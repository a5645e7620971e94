"""Any candle of any series at any time, rolled up from hours of minutes, closed or in progress."""

from collections.abc import Iterable, Iterator

from infra.sandbox.candles import QUANTUM_MS, Candle, HourBlock, build_hour, flat
from infra.sandbox.grid import DAY_MS, DURATIONS_MS, HOUR_MS, MINUTE_MS
from infra.sandbox.numbers import ANCHOR_HOUR, Numbers
from infra.sandbox.recent import Recent
from infra.sandbox.universe import Instrument

_BLOCKS_MAX = 2_048  # cached hours of minutes, about 50 kB each
_SUMS_MAX = 100_000  # cached candles of hours and of days, about 400 bytes each


def roll_up(open_ms: int, parts: Iterable[Candle]) -> Candle:
    """One candle from consecutive ones. Parts without trades are left out of the prices, unless none has trades."""
    held = list(parts)
    assert held, "a bucket has at least one part"
    traded = [part for part in held if part.trades]
    if not traded:
        return flat(open_ms, held[-1].close)
    return Candle(
        open_ms,
        traded[0].open,
        max(part.high for part in traded),
        min(part.low for part in traded),
        traded[-1].close,
        sum(part.volume for part in traded),
        sum(part.quote for part in traded),
        sum(part.trades for part in traded),
        sum(part.taker_volume for part in traded),
        sum(part.taker_quote for part in traded),
    )


class Market:
    """Candles by symbol and interval: pure functions with bounded caches; trades are numbered from hour `anchor` on."""

    def __init__(self, anchor: int = ANCHOR_HOUR) -> None:
        self.numbers = Numbers(anchor)
        self._blocks: Recent[tuple[Instrument, int], HourBlock] = Recent(_BLOCKS_MAX)
        self._hours: Recent[tuple[Instrument, int], Candle] = Recent(_SUMS_MAX)
        self._days: Recent[tuple[Instrument, int], Candle] = Recent(_SUMS_MAX)

    def block(self, item: Instrument, time_ms: int) -> HourBlock:
        """The hour that contains `time_ms`, as minutes."""
        key = (item, time_ms // HOUR_MS)
        found = self._blocks.get(key)
        return found if found is not None else self._blocks.put(key, build_hour(*key))

    def minutes(self, item: Instrument, start_ms: int, end_ms: int) -> Iterator[Candle]:
        """The 1m candles that open in [start_ms, end_ms); none before the listing."""
        for hour_ms in range(start_ms // HOUR_MS * HOUR_MS, end_ms, HOUR_MS):
            for candle in self.block(item, hour_ms).candles:
                if start_ms <= candle.open_ms < end_ms:
                    yield candle

    def candle(self, item: Instrument, interval: str, open_ms: int) -> Candle:
        """The whole candle that opens at `open_ms` (a grid time at or after the first candle)."""
        if interval == "1m":
            return self.block(item, open_ms).minute(open_ms)[0]
        return roll_up(open_ms, self._parts(item, open_ms, item.grid(interval).next(open_ms)))

    def candle_now(self, item: Instrument, interval: str, open_ms: int, now_ms: int) -> Candle:
        """The candle in progress, as of the 250 ms quantum of `now_ms`."""
        return self.so_far(open_ms, self.before_minute(item, open_ms, now_ms), self.minute_now(item, now_ms))

    def before_minute(self, item: Instrument, open_ms: int, now_ms: int) -> Candle | None:
        """The finished minutes since `open_ms` as one candle; None when there are none."""
        start_ms, end_ms = max(open_ms, item.onboard_ms), now_ms // MINUTE_MS * MINUTE_MS
        if start_ms >= end_ms:
            return None
        return roll_up(open_ms, self._parts(item, open_ms, end_ms))

    def minute_now(self, item: Instrument, now_ms: int) -> Candle:
        """The minute in progress; flat at the previous close until its first trade."""
        open_ms = now_ms // MINUTE_MS * MINUTE_MS
        _, walk, before = self.block(item, open_ms).minute(open_ms)
        candle = walk.candle_at(open_ms, (now_ms - open_ms) // QUANTUM_MS) if walk else None
        return candle or flat(open_ms, before)

    @staticmethod
    def so_far(open_ms: int, finished: Candle | None, minute: Candle) -> Candle:
        """One candle from the finished part of a bucket and the minute in progress."""
        return roll_up(open_ms, (finished, minute) if finished else (minute,))

    def between(self, item: Instrument, start_ms: int, end_ms: int) -> Iterator[Candle]:
        """The candles of [start_ms, end_ms) as the fewest days, hours and minutes; none before the listing."""
        return self._parts(item, start_ms, end_ms)

    def _parts(self, item: Instrument, start_ms: int, end_ms: int) -> Iterator[Candle]:
        """The candles of [start_ms, end_ms) as the fewest days, hours and minutes."""
        time_ms = max(start_ms, item.onboard_ms)
        while time_ms < end_ms:
            day_end, hour_end = (time_ms // size * size + size for size in (DAY_MS, HOUR_MS))
            if day_end <= end_ms and (time_ms % DAY_MS == 0 or time_ms == item.onboard_ms):
                yield self._day(item, time_ms // DAY_MS)
                time_ms = day_end
            elif hour_end <= end_ms and (time_ms % HOUR_MS == 0 or time_ms == item.onboard_ms):
                yield self._hour(item, time_ms // HOUR_MS)
                time_ms = hour_end
            else:
                yield from self.minutes(item, time_ms, min(hour_end, end_ms))
                time_ms = hour_end

    def _hour(self, item: Instrument, hour: int) -> Candle:
        found = self._hours.get((item, hour))
        if found is None:
            candles = self.block(item, hour * HOUR_MS).candles
            found = self._hours.put((item, hour), roll_up(hour * HOUR_MS, candles))
        return found

    def _day(self, item: Instrument, day: int) -> Candle:
        found = self._days.get((item, day))
        if found is None:
            first = max(day * DAY_MS, item.onboard_ms) // HOUR_MS
            hours = [self._hour(item, hour) for hour in range(first, day * 24 + 24)]
            found = self._days.put((item, day), roll_up(day * DAY_MS, hours))
        return found


def cost_minutes(interval: str, rows: int) -> int:
    """The number of minutes in `rows` candles, which decides whether a thread computes them."""
    return DURATIONS_MS.get(interval, 30 * DAY_MS) // MINUTE_MS * rows
