"""The kline in progress of a series: from sockets, roll-up or the exchange, and for how long each is trusted."""

from collections.abc import Callable
from typing import Final

from app.domain.interval import M1, Grid
from app.domain.kline import Kline
from app.domain.span import Span
from app.ports import Clock, Series, UpstreamGarbage
from app.services.read_through import ReadThrough
from app.services.rolling import Rolling
from app.services.tail import Live, Tail
from app.services.wish import CLOSE_GRACE_MS

LIVE_AGE_MS_MAX: Final = 10_000
"""A live kline is good this long after the exchange was last heard: by REST, or on the socket that carries it."""

PRICE_AGE_MS_MAX: Final = 1_000  # of mark, index and premium, which move every second: as long as pass-through holds


class InProgress:
    """Knows klines in progress."""

    def __init__(self, clock: Clock, upstream: ReadThrough, tail: Tail, rolling: Rolling) -> None:
        self._clock = clock
        self._upstream = upstream
        self._tail = tail
        self._rolling = rolling
        self.heard_ms: Callable[[Series], int | None] = lambda series: None
        """When the socket that carries a series last brought anything; a quiet symbol's kline may stand still."""

    def known(self, series: Series, open_ms: int) -> Kline | None:
        """The kline in progress that opens at `open_ms`, if it is known without asking."""
        now_ms = self._clock.now_ms()
        tail = self._tail.get(series)
        live = tail.live if tail else None
        if live is not None and live.kline.open_ms == open_ms and self._is_fresh(series, live, now_ms):
            return live.kline
        if series.interval not in self._rolling.intervals:
            return None
        minute_series = Series(series.symbol, M1)
        minutes = self._tail.get(minute_series)
        if minutes is None or minutes.end_ms < M1.grid.floor(now_ms - CLOSE_GRACE_MS):
            return None
        is_fresh = minutes.live is not None and self._is_fresh(minute_series, minutes.live, now_ms)
        minute = minutes.live.kline if minutes.live and is_fresh else None
        if minute is None and now_ms - minutes.end_ms > LIVE_AGE_MS_MAX:
            return None
        return self._rolling.live(series.symbol, series.interval, minute, open_ms, minutes.end_ms)

    async def klines(self, series: Series, grid: Grid, span: Span) -> list[Kline]:
        """The kline in progress, which opens at the begin of `span` as far as we know. Raises UpstreamError.

        When the exchange turns out to be a kline further, both: the one that has closed and the one in progress.
        """
        open_ms, end_ms = span
        live = self.known(series, open_ms)
        if live is not None:
            return [live]
        now_ms = self._clock.now_ms()
        answer = await self._upstream.klines(series, grid, None, 2)
        newest = [kline for kline in answer if kline.open_ms >= open_ms]
        if newest:
            self._tail.set_live(series, grid, Live(newest[-1], now_ms, from_socket=False))
            self._upstream.check_unbroken(series, grid, newest, after_ms=open_ms)
        elif answer and answer[-1].open_ms < grid.shift(open_ms, -1) and self._upstream.is_trading(series):
            raise UpstreamGarbage(f"{series.symbol} {series.interval}: REST's newest kline is older than what is due")
        elif not answer:
            self._upstream.check_newest(series, grid, grid.shift(open_ms, 1))
        return [kline for kline in newest if kline.open_ms < end_ms]

    def _is_fresh(self, series: Series, live: Live, now_ms: int) -> bool:
        age_ms_max = LIVE_AGE_MS_MAX if series.is_of_trades else PRICE_AGE_MS_MAX
        heard_ms = live.heard_ms
        if live.from_socket:
            heard_ms = max(heard_ms, self.heard_ms(series) or 0)
        return now_ms - heard_ms <= age_ms_max
