"""Live roll-up: each symbol's buckets in progress, extended by every closed minute."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from app.domain.interval import D1, M1, MINUTE_MS, Interval
from app.domain.kline import Kline
from app.domain.rollup import Bucket
from app.domain.span import Span


@dataclass(slots=True)
class _Minutes:
    """The buckets of one symbol, all complete up to `next_ms`."""

    next_ms: int
    buckets: dict[str, Bucket] = field(default_factory=dict)


class Rolling:
    """Rolls 1m klines up into the wished intervals of up to a day as they close.

    A bucket whose first minutes were missed (start-up, a lost minute) is absent until `seed` supplies them. If it
    closes before that, the reconciler provides its kline, as it always does for intervals longer than a day.
    """

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self._intervals = [
            interval
            for interval in intervals
            if interval != M1 and not interval.needs_anchor and interval.grid.step_ms <= D1.grid.step_ms
        ]
        self._symbols: dict[str, _Minutes] = {}

    @property
    def intervals(self) -> list[Interval]:
        """The intervals that are rolled up live, shortest first."""
        return self._intervals

    def take(self, symbol: str, minute: Kline) -> Iterator[tuple[Interval, Kline]]:
        """Add a closed 1m kline and yield the longer klines that end with it."""
        state = self._symbols.get(symbol)
        if state is None or state.next_ms != minute.open_ms:
            state = self._symbols[symbol] = _Minutes(minute.open_ms)
        state.next_ms = minute.open_ms + MINUTE_MS
        for interval in self._intervals:
            if interval.grid.floor(minute.open_ms) == minute.open_ms:
                bucket = state.buckets[interval.code] = Bucket(minute.open_ms)
            elif (found := state.buckets.get(interval.code)) is not None:
                bucket = found
            else:
                continue
            bucket.add(minute)
            if interval.grid.shift(bucket.open_ms, 1) == state.next_ms:
                del state.buckets[interval.code]
                yield interval, bucket.kline()

    def lacking(self, symbol: str, held_end_ms: int) -> Span:
        """The span of minutes that `seed` needs to supply the missing buckets of `symbol`; empty when none is missing.

        `held_end_ms` is the end of the held minutes; it counts only for a symbol without any closed minute here yet.
        """
        state = self._symbols.get(symbol)
        end_ms = state.next_ms if state else held_end_ms
        buckets = state.buckets if state else {}
        starts = (interval.grid.floor(end_ms) for interval in self._intervals if interval.code not in buckets)
        return Span(min(starts, default=end_ms), end_ms)

    def seed(self, symbol: str, minutes: Sequence[Kline], span: Span) -> None:
        """Add missing buckets from the complete closed minutes of `span`; ignored unless `span` ends at `next_ms`."""
        state = self._symbols.setdefault(symbol, _Minutes(span.end_ms))
        if state.next_ms != span.end_ms:
            return
        for interval in self._intervals:
            start_ms = interval.grid.floor(span.end_ms)
            if interval.code in state.buckets or not span.start_ms <= start_ms < span.end_ms:
                continue
            parts = [minute for minute in minutes if minute.open_ms >= start_ms]
            if parts:
                bucket = state.buckets[interval.code] = Bucket(start_ms)
                for part in parts:
                    bucket.add(part)

    def live(
        self, symbol: str, interval: Interval, minute: Kline | None, now_open_ms: int, closed_end_ms: int
    ) -> Kline | None:
        """The kline in progress of `interval` that opens at `now_open_ms`, with the live 1m kline added.

        None when the kline is unknown: its bucket lacks its first minutes, does not end at `closed_end_ms` (where the
        closed minutes end), or does not reach the live minute.
        """
        state = self._symbols.get(symbol)
        if state is None or state.next_ms != closed_end_ms:
            return None
        bucket = state.buckets.get(interval.code)
        if bucket is None:
            is_first_minute = minute is not None and minute.open_ms == now_open_ms == state.next_ms
            bucket = Bucket(now_open_ms) if is_first_minute else None
        if bucket is None or bucket.open_ms != now_open_ms:
            return None
        if minute is None:
            return bucket.kline()
        if minute.open_ms != state.next_ms:
            return None
        live = bucket.copy()
        live.add(minute)
        return live.kline()

    def forget(self, symbol: str) -> None:
        """Drop the buckets of a symbol that is no longer followed."""
        self._symbols.pop(symbol, None)
