"""The kline in progress of a series: from sockets, roll-up or the exchange, and for how long each source is trusted.

At the exchange a kline ends at its close time: REST then shows the next one. Here a kline counts as closed when its
closing frame has arrived, or CLOSE_GRACE_MS later. In between, an answer that ends with the kline in progress has two
klines: the one that has just ended, from REST (or from its closing frame while many requests wait), and the new one.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from app.domain.interval import M1, Grid
from app.domain.kind import Row
from app.domain.kline import BadKline, Kline
from app.domain.reason import Reason
from app.domain.series import Series
from app.holding.rolling import Rolling
from app.holding.tail import Live, Tail
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock
from app.ports.errors import UpstreamError, UpstreamGarbage
from app.querying.read_through import ReadThrough
from app.querying.shared_live import SharedLive

ENDED_AGE_MS_MAX: Final = 1_000  # age of a kline that has just ended, from REST: late trades may still change it
READS_AT_CLOSE_MAX: Final = 16
"""From this many read-throughs under way on, a request at a close waits for the closing frame instead.

Bots ask for hundreds of series in that second, and most closing frames arrive within it.
"""


class Unfinished(Protocol):
    """Knows the kline in progress of a series."""

    def known(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The rows from the kline opening at `open_ms` to the one in progress; None if `rows` has to find them."""
        ...

    async def rows(self, series: Series, grid: Grid, open_ms: int) -> list[bytes]:
        """The same rows, wherever they come from; none if there is no kline in progress. Raises UpstreamError."""
        ...


class InProgress:
    """Finds the kline in progress of a series: in memory, or by asking the exchange."""

    def __init__(
        self,
        clock: Clock,
        upstream: ReadThrough,
        tail: Tail,
        rolling: Rolling,
        last_seen_ms: Callable[[Series], int | None],
        shared: SharedLive | None = None,
    ) -> None:
        """`last_seen_ms`: when a series' socket last delivered anything; without trades a kline does not change.

        `shared` is asked first where another process has the sockets; the exchange, and what it said, come after it.
        """
        self._clock = clock
        self._upstream = upstream
        self._tail = tail
        self._rolling = rolling
        self._last_seen_ms = last_seen_ms
        self._shared = shared

    def known(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The rows from the kline opening at `open_ms` to the one in progress; None if somebody must be asked."""
        if self._shared is None or not self._shared.is_elsewhere(series):
            return self._here(series, grid, open_ms)
        rows = self._shared.kept(series, grid, open_ms)
        return None if rows is None else self._merged(series, grid, rows)

    def _here(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """Like `known`, from sockets, roll-up and what the exchange said."""
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
        """The kline in progress, which opens at `open_ms` as far as this node knows. Raises UpstreamError.

        Two rows when the exchange is one kline ahead: the one that has closed and the one in progress.
        """
        if (rows := self.known(series, grid, open_ms)) is not None:
            return rows
        if self._shared is not None and self._shared.is_elsewhere(series):
            shared = await self._shared.rows(series, grid, open_ms)
            rows = None if shared is None else self._merged(series, grid, shared)
            if rows is not None or (rows := self._here(series, grid, open_ms)) is not None:
                return rows
        if self._has_ended(grid, open_ms) and self._upstream.under_way >= READS_AT_CLOSE_MAX:
            await self._closing_frame(series, grid, open_ms)
            if (rows := self._here(series, grid, open_ms)) is not None:
                return rows
        try:
            klines = await self._ask(series, grid, open_ms)
        except UpstreamError:
            if not self._has_ended(grid, open_ms):
                raise
            await self._closing_frame(series, grid, open_ms)
            if (rows := self._here(series, grid, open_ms)) is None:
                raise
            return rows
        return [_row(series, kline, grid) for kline in klines]

    async def _ask(self, series: Series, grid: Grid, open_ms: int) -> list[Kline]:
        """Fetch the exchange's klines that open at or after `open_ms`. Raises UpstreamError."""
        now_ms = self._clock.now_ms()
        answer = await self._upstream.klines(series, grid, None, 2)
        newest = [kline for kline in answer if kline.open_ms >= open_ms]
        if newest:
            self._upstream.check_unbroken(series, grid, newest, after_ms=open_ms)
            ended, live = newest[:-1], newest[-1]
            newest[-1] = self._newer(series, grid, Live(live, now_ms, from_socket=False))
            if ended:
                self._tail.set_ended(series, grid, Live(ended[-1], now_ms, from_socket=False))
        elif answer and answer[-1].open_ms < grid.shift(open_ms, -1) and self._upstream.is_trading(series):
            what = f"{series.name} {series.interval}"
            raise UpstreamGarbage(f"{what}: REST's newest kline is older than what is due", Reason.NOT_WHOLE)
        elif not answer:
            self._upstream.check_newest(series, grid, grid.shift(open_ms, 1))
        return newest

    def _merged(self, series: Series, grid: Grid, rows: list[bytes]) -> list[bytes] | None:
        """Rows of the writer, the last one replaced if a later state is known; None if that is no valid kline."""
        try:
            (live,) = series.kind.rest.decode(b"[%b]" % rows[-1], grid, series.symbol)
        except BadKline:
            return None
        assert isinstance(live, Kline), "only klines are streamed"
        newer = self._newer(series, grid, Live(live, self._clock.now_ms(), from_socket=False))
        return [*rows[:-1], _row(series, newer, grid)]

    def _newer(self, series: Series, grid: Grid, live: Live) -> Kline:
        """Keep a kline in progress; returns the later of it and the present one, so that answers never go back.

        Only trades tell which state is later; price klines, which no socket delivers, count samples.
        """
        self._tail.set_live(series, grid, live)
        tail = self._tail.get(series)
        known = tail.live if tail is not None and series.kind.is_streamed else None
        return known.kline if known is not None and known.open_ms == live.open_ms else live.kline

    def _has_ended(self, grid: Grid, open_ms: int) -> bool:
        """Whether the kline that opens at `open_ms` is over by the exchange's time."""
        return grid.shift(open_ms, 1) <= self._clock.now_ms()

    async def _closing_frame(self, series: Series, grid: Grid, open_ms: int) -> None:
        """Wait until the kline that opened at `open_ms` is closed here, at most until CLOSE_GRACE_MS after its end."""
        tail = self._tail.get(series)
        if tail is None or tail.end_ms != open_ms or not series.kind.is_streamed:
            return  # no socket delivers its closing frame
        left_ms = grid.shift(open_ms, 1) + CLOSE_GRACE_MS - self._clock.now_ms()
        try:
            async with asyncio.timeout(max(0, left_ms) / 1000):
                await self._tail.closing(series).wait()
        except TimeoutError:
            return

    def _live(self, series: Series, open_ms: int, now_ms: int) -> Kline | None:
        """The kline in progress that opens at `open_ms`, from sockets, REST or roll-up; None when none is fresh."""
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
