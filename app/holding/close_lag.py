"""Close lag: a histogram by interval of the time from a kline's close at the exchange until it can be served."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.domain.columns import newest_open_ms
from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.ports.clock import Clock

BOUNDS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
HOLES_MAX: Final = 100  # spans per series, the oldest dropped first; sockets lose single minutes or a whole outage


@dataclass(slots=True)
class Buckets:
    """A histogram of lags: one count per bucket between `BOUNDS_S`, a last one for lags beyond them, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0


class CloseLag:
    """Counts each kline of a followed symbol once, at its first arrival, if it closes while the node runs.

    Klines that closed before the symbol was followed are history: their repair says nothing about freshness. Counting
    costs one look-up and one comparison, because seven intervals of 600 symbols close at once. Metrics read the
    histograms on scrape.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_ms: dict[str, int] = {}
        self._next_ms: dict[Series, int] = {}
        self._holes: dict[Series, Spans] = {}
        self._buckets: dict[str, Buckets] = {}

    def follow(self, symbols: Collection[str]) -> None:
        """Count klines of exactly these symbols from now on."""
        now_ms = self._clock.now_ms()
        self._since_ms = {symbol: self._since_ms.get(symbol, now_ms) for symbol in symbols}
        for gone in [series for series in self._next_ms if series.name not in self._since_ms]:
            del self._next_ms[gone]
            self._holes.pop(gone, None)

    def arrived(self, series: Series, grid: Grid, klines: Sequence[Row]) -> None:
        """Count closed klines, ascending, that can be served from now on; klines already counted are skipped."""
        next_ms = self._next_ms.get(series)
        if next_ms is None:
            since_ms = self._since_ms.get(series.name)
            if since_ms is None:
                return
            next_ms = self._next_ms[series] = grid.floor(since_ms)
        if not klines or (newest_open_ms(klines) < next_ms and series not in self._holes):
            return
        now_ms = self._clock.now_ms()
        for kline in klines:
            open_ms = kline.open_ms
            if open_ms >= next_ms:
                if open_ms > next_ms:
                    self._lack(series, Span(next_ms, open_ms))
                next_ms = self._next_ms[series] = grid.shift(open_ms, 1)
                self._count(series, now_ms - next_ms)
            elif self._holes.get(series, _NONE).span_at(open_ms):
                self._fill(series, Span(open_ms, grid.shift(open_ms, 1)))
                self._count(series, now_ms - grid.shift(open_ms, 1))

    def histograms(self) -> list[tuple[dict[str, str], Sequence[int], float]]:
        """The histograms for metrics, one per interval: its label, the counts per bucket and the sum in seconds."""
        return [({"interval": code}, buckets.counts, buckets.sum_s) for code, buckets in self._buckets.items()]

    def _lack(self, series: Series, span: Span) -> None:
        """Record skipped klines, so that their lag is counted when they arrive."""
        holes = self._holes.get(series, _NONE).extended(span)
        self._holes[series] = Spans(list(holes)[-HOLES_MAX:]) if len(holes) > HOLES_MAX else holes

    def _fill(self, series: Series, span: Span) -> None:
        holes = self._holes[series] - Spans([span])
        if holes:
            self._holes[series] = holes
        else:
            del self._holes[series]

    def _count(self, series: Series, lag_ms: int) -> None:
        buckets = self._buckets.get(series.interval.code)
        if buckets is None:
            buckets = self._buckets[series.interval.code] = Buckets()
        lag_s = max(0, lag_ms) / 1000  # our clock may be slightly behind the exchange's
        buckets.counts[bisect_left(BOUNDS_S, lag_s)] += 1
        buckets.sum_s += lag_s


_NONE: Final = Spans()
