"""A cache of klines that were read through recently and are not stored, because their series are not wished."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cachetools import LRUCache

from app.binance import rest_rows
from app.domain.columns import Columns
from app.domain.interval import MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock

BYTES_MAX: Final = 32 * 1024 * 1024  # 250,000 klines as REST prints them: 99 of 2,500 series, or 500 of 500
AGE_MS_MAX: Final = 10 * MINUTE_MS
"""The exchange does not report a repaired kline that is not held: it is fetched again after this long."""
RUNS_MAX: Final = 32  # runs per series: pages of a client that pages through its history
RUN_OVERHEAD_BYTES: Final = 512  # keys, span and index besides the rows
BEGINS_MAX: Final = 8_192  # series whose first open time is cached: bots ask for earlier klines


class _Run(NamedTuple):
    """Every closed kline that exists in `span`, as REST prints them."""

    span: Span
    body: bytes
    read_ms: int


class ReadMemory:
    """An LRU cache of closed klines from the exchange, bounded in bytes; it evicts the series unused for longest."""

    def __init__(self, clock: Clock, bytes_max: int = BYTES_MAX) -> None:
        self._clock = clock
        self._runs: LRUCache[Series, tuple[_Run, ...]] = LRUCache(bytes_max, getsizeof=_cost)
        self._begins: LRUCache[Series, tuple[int, int]] = LRUCache(BEGINS_MAX)

    @property
    def bytes(self) -> int:
        """The size of the cached klines in bytes."""
        return int(self._runs.currsize)

    def learn(self, series: Series, grid: Grid, span: Span, limit: int, klines: Sequence[Row]) -> None:
        """Cache the exchange's answer to a request for the oldest `limit` klines of `span`.

        Klines that may still change are left out, as in the store.
        """
        now_ms = self._clock.now_ms()
        closed = Columns.of(klines).closed_by(now_ms - CLOSE_GRACE_MS, grid)
        end_ms = span.end_ms if len(klines) < limit else grid.shift(klines[-1].open_ms, 1)
        known = Span(span.start_ms, min(end_ms, grid.floor(now_ms - CLOSE_GRACE_MS)))
        if not known:
            return
        body = rest_rows.join(series.kind.encode(kline, grid.shift(kline.open_ms, 1) - 1) for kline in closed)
        others = [run for run in self._current(series) if run.span.clip(known) != run.span]
        runs = (*others[1 - RUNS_MAX :], _Run(known, body, now_ms))
        self._runs.pop(series, None)
        if _cost(runs) <= self._runs.maxsize:
            self._runs[series] = runs

    def klines(self, series: Series, grid: Grid, span: Span, limit: int) -> Sequence[Any] | None:
        """The oldest `limit` klines of `span`; None when some of them are not cached."""
        for run in self._current(series):
            if not run.span.start_ms <= span.start_ms < run.span.end_ms:
                continue
            known = series.kind.rest.decode(run.body, grid, series.symbol)
            found = [kline for kline in known if span.start_ms <= kline.open_ms < span.end_ms]
            if len(found) >= limit or span.end_ms <= run.span.end_ms:
                return found[:limit]
        return None

    def learn_begin(self, series: Series, open_ms: int) -> None:
        """Cache the open time (ms) of a series' first kline, which the exchange was asked for by itself."""
        self._begins[series] = open_ms, self._clock.now_ms()

    def begin_ms(self, series: Series) -> int | None:
        """The open time (ms) of a series' first kline; None unless fetched within AGE_MS_MAX."""
        open_ms, asked_ms = self._begins.get(series, (None, 0))
        return open_ms if is_fresh(asked_ms, self._clock.now_ms(), AGE_MS_MAX) else None

    def forget(self, series: Series) -> None:
        """Invalidate the klines and the begin of a series: they are doubted, or the store knows better."""
        self._runs.pop(series, None)
        self._begins.pop(series, None)

    def clear(self) -> None:
        """Invalidate the whole cache."""
        self._runs.clear()
        self._begins.clear()

    def _current(self, series: Series) -> list[_Run]:
        """The runs of a series that are not older than AGE_MS_MAX."""
        now_ms = self._clock.now_ms()
        return [run for run in self._runs.get(series, ()) if is_fresh(run.read_ms, now_ms, AGE_MS_MAX)]


def _cost(runs: Sequence[_Run]) -> int:
    return sum(len(run.body) + RUN_OVERHEAD_BYTES for run in runs)
