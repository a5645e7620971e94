"""The wish: which klines the node should hold, as a pure function of settings, listings and time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.domain.interval import D1, DAY_MS, HOUR_MS, M1, Grid, Interval
from app.domain.kind import Kind
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.symbol import Symbol
from app.kinds.registry import KINDS

CLOSE_GRACE_MS: Final = 3_000
"""A kline is due this long after its close: recorded closing frames came 0.2–2.0 s after it (binance-facts 7)."""

BASE_DAYS_MIN: Final = 2  # 1m is held this far back even when it is not wished: longer intervals are rolled up from it
REACH_MARGIN_MS: Final = HOUR_MS  # rows about to pass out of the exchange's reach are not asked for any more
TAIL_KLINES: Final = 500  # the newest klines of a series, completed before any history (contract: /v1/ready)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to hold: `symbols` × `intervals` for the last `backfill_days`, and `extra` spans an operator asked for."""

    symbols: Collection[str]
    intervals: Sequence[Interval]
    backfill_days: int
    listings: Mapping[str, Symbol]
    extra: Mapping[Series, Span]
    others: Mapping[Kind, Collection[str]] = field(default_factory=dict)
    """Per kind that is not wished for all `symbols`: its own symbols or pairs, wished while they trade."""
    since_ms: Mapping[str, int] = field(default_factory=dict)
    """Per name that another listing had before: when the current listing begins."""
    doubted: Collection[str] = ()
    """Names under doubt: it is not known which listing's klines are held. `symbols` excludes them."""

    def series(self) -> list[Series]:
        """Every wished series, including 1m of every symbol, which the roll-up needs."""
        wished = [
            Series(kind, symbol, interval)
            for kind in KINDS.values()
            for intervals in [self._intervals_of(kind)]
            for symbol in self._symbols_of(kind)
            if kind.follows_symbols or self._is_traded(symbol)
            for interval in intervals
        ]
        seen = set(wished)
        return wished + [series for series in self.extra if series not in seen]

    def planned(self) -> list[Series]:
        """The wished series that the reconciler completes as they close: all but the gathered ones."""
        return [series for series in self.series() if not series.kind.is_gathered]

    def gathered(self) -> list[Series]:
        """The wished series of gathered kinds."""
        if not self.extra and not any(kind.is_gathered for kind in self.others):
            return []
        return [series for series in self.series() if series.kind.is_gathered]

    @property
    def held_intervals(self) -> list[Interval]:
        """The wished intervals and 1m, shortest first."""
        return list(self.intervals) if M1 in self.intervals else [M1, *self.intervals]

    def has(self, series: Series) -> bool:
        """Whether fetched klines of `series` should be stored."""
        return series in self.extra or self.follows(series)

    def follows(self, series: Series) -> bool:
        """Whether the klines of `series` are to be held as they close."""
        kind, symbol, interval = series
        if symbol not in self._symbols_of(kind):
            return False
        if interval not in self._intervals_of(kind):
            return False
        return kind.follows_symbols or self._is_traded(symbol)

    def _symbols_of(self, kind: Kind) -> Collection[str]:
        return self.symbols if kind.follows_symbols else self.others.get(kind, ())

    def _intervals_of(self, kind: Kind) -> Sequence[Interval]:
        return kind.intervals_of(self.held_intervals if kind.rolls_up else self.intervals)

    def _is_traded(self, symbol: str) -> bool:
        if symbol in self.doubted:
            return False
        listing = self.listings.get(symbol)
        return not self.listings or (listing is not None and listing.is_begun)

    def is_over(self, series: Series, now_ms: int) -> bool:
        """Whether the series' contract was delivered by `now_ms`, so that no newer klines are expected."""
        ends_ms = self._ends_ms(series)
        return ends_ms is not None and ends_ms <= now_ms

    def _ends_ms(self, series: Series) -> int | None:
        listing = self.listings.get(series.symbol)
        return None if listing is None else listing.ends_ms

    def _due_end_ms(self, series: Series, grid: Grid, now_ms: int) -> int:
        """The end of the due klines: the newest kline closed CLOSE_GRACE_MS ago, or the contract's last one."""
        late_ms = CLOSE_GRACE_MS + series.kind.rest.late_ms
        end_ms, ends_ms = grid.floor(now_ms - late_ms), self._ends_ms(series)
        return end_ms if ends_ms is None else min(end_ms, grid.ceil(ends_ms))

    def next_due_ms(self, series: Series, grid: Grid, now_ms: int) -> int:
        """When the next row of `series` will be due (ms)."""
        late_ms = CLOSE_GRACE_MS + series.kind.rest.late_ms
        return grid.shift(grid.floor(now_ms - late_ms), 1) + late_ms

    def spans(self, series: Series, grid: Grid, now_ms: int) -> list[Span]:
        """The open times to hold, as spans on the grid: the backfill up to the newest due kline, and the extra wish."""
        end_ms = self._due_end_ms(series, grid, now_ms)
        spans = []
        if self.follows(series):
            start_ms = self._begin_ms(series, grid, now_ms)
            spans.append(Span(start_ms, max(start_ms, end_ms)))
        if (extra := self.extra.get(series)) is not None:
            end_ms = min(grid.ceil(extra.end_ms), grid.floor(now_ms - CLOSE_GRACE_MS))
            spans.append(Span(grid.ceil(extra.start_ms), end_ms))
        return [span for span in spans if span]

    def may_come(self, series: Series, grid: Grid, lacking: Spans, now_ms: int) -> bool:
        """Whether the node will hold some of `lacking`: open times that are wished, or will be once they are due.

        So it is too for a name under doubt, of which all is wished again when the doubt is settled.
        """
        if series.symbol in self.doubted:
            return True
        if any(lacking.clip(span) for span in self.spans(series, grid, now_ms)):
            return True
        is_late = not lacking or lacking.hull.end_ms > self._due_end_ms(series, grid, now_ms)
        return is_late and self.follows(series) and not self.is_over(series, now_ms)

    def tail(self, series: Series, grid: Grid, now_ms: int) -> Span:
        """The newest TAIL_KLINES open times of the wish, or the whole wish when it is shorter."""
        end_ms = self._due_end_ms(series, grid, now_ms)
        start_ms = max(grid.shift(end_ms, -TAIL_KLINES), self._begin_ms(series, grid, now_ms))
        return Span(start_ms, max(start_ms, end_ms))

    def _begin_ms(self, series: Series, grid: Grid, now_ms: int) -> int:
        """When the wish begins: never before the listing that has the name now.

        Of a kind of which the exchange has rows for a limited time, everything that it has is wished in any case.
        """
        since_ms, reach_ms = grid.floor(self.since_ms.get(series.symbol, 0)), series.kind.rest.reach_ms
        start_ms = self._start_ms(series, grid, now_ms)
        if reach_ms is None:
            return max(start_ms, since_ms)
        reached_ms = grid.ceil(now_ms - reach_ms + REACH_MARGIN_MS)
        begin_ms = min(start_ms, reached_ms) if series.kind.is_archived else reached_ms
        return max(since_ms, begin_ms, grid.floor(self.hint_ms(series)))

    def _start_ms(self, series: Series, grid: Grid, now_ms: int) -> int:
        """When the backfill begins. The listing's date is only a hint; the exchange proves when the series begins."""
        days = self.backfill_days
        if series.interval == M1 and M1 not in self.intervals:
            days = min(days, BASE_DAYS_MIN)
        return grid.ceil(D1.grid.floor(now_ms) - days * DAY_MS)

    def hint_ms(self, series: Series) -> int:
        """A day before the listing: klines from before probably do not exist, and the day's absence shows it."""
        listing = self.listings.get(series.symbol)
        return 0 if listing is None else D1.grid.floor(listing.onboard_ms) - DAY_MS
