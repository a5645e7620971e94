"""The kline in progress of a series: from sockets, roll-up or the exchange, and for how long each is trusted.

At its close a kline ends for the exchange at once: REST shows the next one, which opens then. Here it counts as closed
when its closing frame is in, or CLOSE_GRACE_MS later. In between, an answer that ends with the kline in progress has
both: the one that has just closed, as REST states it, or by its frame where too many ask for that; and the new one.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from app.domain.interval import M1, Grid
from app.domain.kind import Row
from app.domain.kline import Kline
from app.domain.reason import Reason
from app.domain.series import Series
from app.holding.rolling import Rolling
from app.holding.tail import Live, Tail
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock
from app.ports.errors import UpstreamError, UpstreamGarbage
from app.querying.read_through import ReadThrough

ENDED_AGE_MS_MAX: Final = 1_000  # of a kline that REST says has just closed: late trades may still change it
READS_AT_CLOSE_MAX: Final = 16
"""Read-throughs under way from which on who asks at a close waits for the closing frame instead: bots ask for hundreds
of series in that second, and the frames of most come within it."""


class InProgress:
    """Knows klines in progress."""

    def __init__(
        self,
        clock: Clock,
        upstream: ReadThrough,
        tail: Tail,
        rolling: Rolling,
        last_seen_ms: Callable[[Series], int | None],
    ) -> None:
        """`last_seen_ms`: when the socket of a series last delivered anything; a quiet kline may stand still."""
        self._clock = clock
        self._upstream = upstream
        self._tail = tail
        self._rolling = rolling
        self._last_seen_ms = last_seen_ms

    def known(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The rows from the kline that opens at `open_ms` up to the one in progress, if nobody has to be asked."""
        now_ms = self._clock.now_ms()
        tail = self._tail.get(series)
        rows: list[bytes] = []
        if tail is not None and tail.start_ms <= open_ms < tail.end_ms:  # closed since the caller looked
            rows += tail.rows[tail.index(open_ms) :]
            open_ms = tail.end_ms
        if self._has_ended(grid, open_ms):
            ended = tail.ended if tail else None
            if ended is None or ended.open_ms != open_ms or now_ms - ended.heard_ms > ENDED_AGE_MS_MAX:
                return None
            rows.append(_row(series, ended.kline, grid))
            open_ms = grid.shift(open_ms, 1)
        live = None if self._has_ended(grid, open_ms) else self._live(series, open_ms, now_ms)
        return None if live is None else [*rows, _row(series, live, grid)]

    async def rows(self, series: Series, grid: Grid, open_ms: int) -> list[bytes]:
        """The kline in progress, which opens at `open_ms` as far as we know. Raises UpstreamError.

        When the exchange is a kline further, both: the one that has closed and the one in progress.
        """
        if (rows := self.known(series, grid, open_ms)) is not None:
            return rows
        if self._has_ended(grid, open_ms) and self._upstream.under_way >= READS_AT_CLOSE_MAX:
            await self._closing_frame(series, grid, open_ms)
            if (rows := self.known(series, grid, open_ms)) is not None:
                return rows
        try:
            klines = await self._ask(series, grid, open_ms)
        except UpstreamError:
            if not self._has_ended(grid, open_ms):
                raise
            await self._closing_frame(series, grid, open_ms)
            if (rows := self.known(series, grid, open_ms)) is None:
                raise
            return rows
        return [_row(series, kline, grid) for kline in klines]

    async def _ask(self, series: Series, grid: Grid, open_ms: int) -> list[Kline]:
        """The exchange's klines from the one that opens at `open_ms` on."""
        now_ms = self._clock.now_ms()
        answer = await self._upstream.klines(series, grid, None, 2)
        newest = [kline for kline in answer if kline.open_ms >= open_ms]
        if newest:
            self._upstream.check_unbroken(series, grid, newest, after_ms=open_ms)
            ended, live = newest[:-1], newest[-1]
            self._tail.set_live(series, grid, Live(live, now_ms, from_socket=False))
            if ended:
                self._tail.set_ended(series, grid, Live(ended[-1], now_ms, from_socket=False))
        elif answer and answer[-1].open_ms < grid.shift(open_ms, -1) and self._upstream.is_trading(series):
            what = f"{series.name} {series.interval}"
            raise UpstreamGarbage(f"{what}: REST's newest kline is older than what is due", Reason.NOT_WHOLE)
        elif not answer:
            self._upstream.check_newest(series, grid, grid.shift(open_ms, 1))
        return newest

    def _has_ended(self, grid: Grid, open_ms: int) -> bool:
        """Whether the kline that opens at `open_ms` is over by the exchange's time."""
        return grid.shift(open_ms, 1) <= self._clock.now_ms()

    async def _closing_frame(self, series: Series, grid: Grid, open_ms: int) -> None:
        """Wait until the kline that has just ended is closed here, for as long as its closing frame is expected."""
        tail = self._tail.get(series)
        if tail is None or tail.end_ms != open_ms or not series.kind.is_streamed:
            return  # no socket brings it
        left_ms = grid.shift(open_ms, 1) + CLOSE_GRACE_MS - self._clock.now_ms()
        try:
            async with asyncio.timeout(max(0, left_ms) / 1000):
                await self._tail.closing(series).wait()
        except TimeoutError:
            return

    def _live(self, series: Series, open_ms: int, now_ms: int) -> Kline | None:
        """The kline in progress that opens at `open_ms`, as sockets or REST have said, or rolled up."""
        tail = self._tail.get(series)
        live = tail.live if tail else None
        if live is not None and live.open_ms == open_ms and self._is_fresh(series, live, now_ms):
            return live.kline
        if not series.kind.rolls_up or series.interval not in self._rolling.intervals:
            return None
        minute_series = series.of(M1)
        minutes = self._tail.get(minute_series)
        if minutes is None or minutes.end_ms < M1.grid.floor(now_ms - CLOSE_GRACE_MS):
            return None
        is_fresh = minutes.live is not None and self._is_fresh(minute_series, minutes.live, now_ms)
        minute = minutes.live.kline if minutes.live and is_fresh else None
        if minute is None and now_ms - minutes.end_ms > series.kind.live_age_ms_max:
            return None
        return self._rolling.live(series.name, series.interval, minute, open_ms, minutes.end_ms)

    def _is_fresh(self, series: Series, live: Live, now_ms: int) -> bool:
        heard_ms = live.heard_ms
        if live.from_socket:
            heard_ms = max(heard_ms, self._last_seen_ms(series) or 0)
        return now_ms - heard_ms <= series.kind.live_age_ms_max


def _row(series: Series, row: Row, grid: Grid) -> bytes:
    return series.kind.encode(row, grid.shift(row.open_ms, 1) - 1)
