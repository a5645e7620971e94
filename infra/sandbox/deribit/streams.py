"""The streams of Deribit's sockets, one class for each kind of channel."""

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from infra.sandbox.book import LATE_STEPS_MAX
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.deribit import rows
from infra.sandbox.deribit.methods import grid_of
from infra.sandbox.deribit.rpc import notification
from infra.sandbox.faults import Target
from infra.sandbox.funding import has_funding
from infra.sandbox.grid import SECOND_MS, Grid
from infra.sandbox.ladders import DEPTH_MAX
from infra.sandbox.listings import Listing
from infra.sandbox.peers import Stream
from infra.sandbox.venue import StepCursor, TradeCursor, Venue, step_ms

INTERVALS_MS: Final = {"100ms": 100, "agg2": SECOND_MS}
DEPTHS: Final = ("1", "10", "20")  # levels of grouped books
_CLOSED_MAX: Final = 60  # closed candles that a delayed stream still sends


def stream_of(venue: Venue, channel: str, path: str, now_ms: int) -> Stream | None:
    """The stream of a channel; None if there is no such channel or instrument."""
    kind, _, rest = channel.partition(".")
    if kind == "chart":
        return _chart(venue, channel, rest, now_ms)
    name, _, detail = rest.partition(".")
    listing = venue.listings.find(name, now_ms)
    if listing is None:
        return None
    parts = detail.split(".")
    if kind == "book" and len(parts) == 3 and parts[0] == "none" and parts[1] in DEPTHS and parts[2] in INTERVALS_MS:
        return DepthStream(venue, listing, channel, int(parts[1]), now_ms)
    if kind == "book" and detail == "100ms":
        target = Target(symbol=name, path=path, streams=(channel,), venue=venue.name)
        begins_late = venue.faults.take("snapshot_missing", target, now_ms) is not None
        return BookStream(venue, listing, channel, now_ms, begins_late=begins_late)
    every_ms = INTERVALS_MS.get(detail)
    if every_ms is None:
        return None
    if kind == "trades":
        return TradeStream(venue, listing, channel, now_ms, every_ms)
    if kind == "ticker":
        return ValueStream(listing, channel, every_ms, lambda now_ms: rows.ticker(venue, listing, now_ms))
    if kind == "perpetual" and has_funding(listing.item):
        return ValueStream(listing, channel, every_ms, lambda now_ms: rows.perpetual(venue, listing, now_ms))
    return None


def _chart(venue: Venue, channel: str, rest: str, now_ms: int) -> Stream | None:
    what, _, rest = rest.partition(".")
    name, _, resolution = rest.partition(".")
    listing, grid = venue.listings.find(name, now_ms), grid_of(resolution)
    if what != "trades" or listing is None or grid is None:
        return None
    return ChartStream(venue, listing, channel, grid, now_ms)


class BookStream(Stream):
    """The channel book.{instrument}.100ms: a snapshot of all levels, and a change for each step of the book."""

    def __init__(self, venue: Venue, listing: Listing, channel: str, now_ms: int, *, begins_late: bool) -> None:
        super().__init__(channel, listing.name, is_sequenced=True)
        self._venue, self._listing = venue, listing
        self._cursor = StepCursor(now_ms)
        self._is_new = not begins_late

    def frames(self, now_ms: int) -> Iterator[str]:
        """The snapshot, and a change for each step since; after a reset another snapshot."""
        if self._is_new:
            self._is_new = False
            yield self._snapshot(self._cursor.step)
        for step in self._cursor.take(now_ms, LATE_STEPS_MAX):
            is_reset = self._venue.was_reset_at(self._listing, step)
            yield self._snapshot(step) if is_reset else self._change(step)

    def _snapshot(self, step: int) -> str:
        best = self._venue.ladders.best(self._listing.item, step, DEPTH_MAX)
        bids, asks = (rows.new_levels(self._listing, side.items()) for side in best)
        return self._frame("snapshot", step, "", bids, asks)

    def _change(self, step: int) -> str:
        delta = self._venue.ladders.delta(self._listing.item, step, DEPTH_MAX)
        bids, asks = (rows.changes(self._listing, side) for side in delta)
        before = f'"prev_change_id":{self._venue.sequence(self._listing, step - 1)},'
        return self._frame("change", step, before, bids, asks)

    def _frame(self, kind: str, step: int, before: str, bids: str, asks: str) -> str:
        return notification(
            self.key,
            f'{{"type":"{kind}","timestamp":{step_ms(step)},{before}"instrument_name":"{self._listing.name}",'
            f'"change_id":{self._venue.sequence(self._listing, step)},"bids":{bids},"asks":{asks}}}',
        )


class DepthStream(Stream):
    """The channel book.{instrument}.none.{depth}.{interval}: the best levels of the newest step."""

    def __init__(self, venue: Venue, listing: Listing, channel: str, depth: int, now_ms: int) -> None:
        super().__init__(channel, listing.name)
        self._venue, self._listing, self._depth = venue, listing, depth
        self._cursor = StepCursor(now_ms)
        self._cursor.step -= 1

    def frames(self, now_ms: int) -> Iterator[str]:
        """The levels of the newest step, if it is a new one."""
        for step in self._cursor.take(now_ms, 1):
            best = self._venue.ladders.best(self._listing.item, step, self._depth)
            bids, asks = (rows.levels(self._listing, side.items()) for side in best)
            yield notification(
                self.key,
                f'{{"timestamp":{step_ms(step)},"instrument_name":"{self._listing.name}",'
                f'"change_id":{self._venue.sequence(self._listing, step)},"bids":{bids},"asks":{asks}}}',
            )


class TradeStream(Stream):
    """The channel trades: all trades since the last frame in one."""

    def __init__(self, venue: Venue, listing: Listing, channel: str, now_ms: int, every_ms: int) -> None:
        super().__init__(channel, listing.name, is_sequenced=True)
        self._venue, self._text = venue, rows.TradeText(listing)
        self._cursor = TradeCursor(venue, listing, now_ms)
        self._every_ms, self._period = every_ms, now_ms // every_ms

    def frames(self, now_ms: int) -> Iterator[str]:
        """One frame, if there were trades."""
        period = now_ms // self._every_ms
        if period == self._period:
            return
        self._period = period
        trades = self._cursor.take(now_ms)
        if trades:
            yield notification(self.key, f"[{','.join([self._text.row(self._venue, trade) for trade in trades])}]")


class ChartStream(Stream):
    """The channel chart.trades: a candle whenever it changes. Nothing tells that it is closed but the next one."""

    def __init__(self, venue: Venue, listing: Listing, channel: str, grid: Grid, now_ms: int) -> None:
        super().__init__(channel, listing.name, interval=grid.interval)
        self._venue, self._listing, self._grid = venue, listing, grid
        self._open_ms, self._quantum, self._sent = grid.floor(now_ms), -1, b""

    def frames(self, now_ms: int) -> Iterator[str]:
        """The last state of the candles that ended since the last call, and the one in progress if it has changed."""
        quantum = now_ms // QUANTUM_MS
        if quantum == self._quantum:
            return
        self._quantum, closed = quantum, 0
        while (end_ms := self._grid.next(self._open_ms)) <= now_ms:
            if closed < _CLOSED_MAX:
                yield notification(self.key, self._row(end_ms, now_ms).decode())
            self._open_ms, closed = end_ms, closed + 1
        row = self._row(end_ms, now_ms)
        if row != self._sent:
            self._sent = row
            yield notification(self.key, row.decode())

    def _row(self, end_ms: int, now_ms: int) -> bytes:
        return orjson.dumps(rows.candle_row(self._venue, self._listing, self._open_ms, end_ms, now_ms))


class ValueStream(Stream):
    """A channel that tells a value in every interval; of 100 ms only with every change of the last price."""

    def __init__(self, listing: Listing, channel: str, every_ms: int, describe: Callable[[int], rows.Json]) -> None:
        super().__init__(channel, listing.name)
        self._every_ms, self._describe, self._period = max(every_ms, QUANTUM_MS), describe, -1

    def frames(self, now_ms: int) -> Iterator[str]:
        """One frame if a new period has begun."""
        period = now_ms // self._every_ms
        if period != self._period:
            self._period = period
            yield notification(self.key, orjson.dumps(self._describe(now_ms)).decode())
