"""Live ingest: passes socket events to the tail, the roll-up and, in batches, the store."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from app.binance.stream_event import KlineEvent
from app.domain.backoff import ceiling_s
from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import Kline, Precision, normalise
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import CommitFailed, GarbageDropped, KlineClosed
from app.holding.commit import Committer
from app.holding.copies import Copies
from app.holding.tail import Live, SeriesTail
from app.ingest.dispute import Disputes
from app.kinds.klines import KLINES
from app.ports.errors import StoreUnavailable
from app.ports.streams import MarketSockets
from app.runtime import Runtime

QUEUE_ROWS_MAX: Final = 20_000  # 600 symbols × 7 intervals all closing at once, four times over
BATCH_ROWS_MAX: Final = 5_000  # rows per transaction: more gain nothing and lock the database longer
BATCH_DELAY_S: Final = 0.1  # a closed kline waits at most this long for others to share its transaction
RETRY_DELAY_S_MIN: Final = 0.5
RETRY_DELAY_S_MAX: Final = 30.0
EARLY_MS_MAX: Final = MINUTE_MS  # a kline that opens further ahead of our clock is dropped; our clock may lag slightly
SYMBOLS_MAX: Final = 4_096  # whose series are kept for their next frame: several times as many as are listed


class _Row(NamedTuple):
    series: Series
    source: Source
    kline: Kline
    as_of: int
    """The Committer's epoch when the kline closed."""
    precision: Precision
    """The decimals of its numbers."""


class LiveIngest:
    """Turns kline events into served and stored klines; loses no accepted kline while the process runs."""

    def __init__(
        self,
        runtime: Runtime,
        sockets: MarketSockets,
        copies: Copies,
        committer: Committer,
        disputes: Disputes,
        heard: Callable[[int], int],
    ) -> None:
        """`heard` is called for each event of a followed symbol, with the exchange's time (ms) stated in the event.

        It returns the time (ms) by our clock, which it may have corrected.
        """
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._sockets = sockets
        self._symbols = copies.symbols
        self._holdings = copies.ledgers
        self._tail = copies.tail
        self._rolling = copies.rolling
        self._committer = committer
        self._drop = copies.drop
        self._live_moved = copies.moved
        self._disputes = disputes
        self._heard = heard
        self._queue: asyncio.Queue[_Row] = asyncio.Queue(QUEUE_ROWS_MAX)
        self._batch: list[_Row] = []
        self._unwritten: dict[tuple[Series, int], Kline] = {}  # the 1m klines that wait to be written

    @property
    def queue_depth(self) -> int:
        """The number of closed klines that wait to be written."""
        return self._queue.qsize() + len(self._batch)

    async def ingest(self) -> None:
        """Process socket events, forever."""
        async for event in self._sockets.events():
            if (final := self._take_live(event)) is not None:
                await self._take_final(*final)

    async def take(self, event: KlineEvent) -> None:
        """Process one event. Waits while the queue is full: that slows the sockets down instead of dropping klines."""
        if (final := self._take_live(event)) is not None:
            await self._take_final(*final)

    def _take_live(self, event: KlineEvent) -> tuple[_Row, int] | None:
        """Process an event of a kline in progress; returns a closed kline, and the time (ms) at which it was taken."""
        symbol = self._symbols.listing(event.symbol)
        if event.interval != M1 or event.symbol not in self._symbols.wished_set or symbol is None:
            return None  # without the symbol's precision a kline cannot be brought to REST's form
        now_ms = self._heard(event.event_ms)
        kline, series = event.kline, _minutes(event.symbol)
        closes_ms = kline.open_ms + MINUTE_MS
        if kline.open_ms > now_ms + EARLY_MS_MAX or (event.is_final and event.event_ms < closes_ms):
            self._observe(GarbageDropped("socket", f"{event.symbol} {kline.open_ms} is ahead of time at {now_ms}"))
        elif event.is_final:
            # the epoch is read before the first await: rows replaced during it invalidate the roll-ups
            epoch, precision = self._committer.epoch, symbol.precision
            return _Row(series, Source.WS, normalise(kline, precision), epoch, precision), now_ms
        elif kline.open_ms >= self._holdings.ledger(series).end_ms:  # otherwise the event arrived after the close
            told_ms = event.event_ms if 0 < event.event_ms < now_ms else now_ms  # sockets and our queue may delay it
            self._tail.set_live(series, M1.grid, Live(kline, told_ms, from_socket=True, precision=symbol.precision))
            self._live_moved(event.symbol)
        return None

    async def _take_final(self, row: _Row, now_ms: int) -> None:
        series, kline = row.series, row.kline
        tail = self._tail.get(series)
        is_held = self._holdings.ledger(series).held.span_at(kline.open_ms) is not None
        if is_held or (tail and tail.rows and kline.open_ms < tail.end_ms):
            await self._take_again(row, tail, is_held=is_held)
            return  # a bucket that lacks the minute gets the held row from warm-up: `kline` may differ from it
        await self._close(row)
        self._observe(KlineClosed(series.name, max(0, now_ms - kline.open_ms - MINUTE_MS)))
        since_ms = self._holdings.since_ms.get(series.name, 0)
        for interval, longer in self._rolling.take(series.name, kline):
            if longer.open_ms < since_ms < kline.open_ms:
                continue  # the first longer kline of a new listing under this name is fetched instead
            await self._close(row._replace(series=series.of(interval), source=Source.ROLLUP, kline=longer))
        self._live_moved(series.name)  # longer klines in progress now end with this minute

    async def _take_again(self, row: _Row, tail: SeriesTail | None, *, is_held: bool) -> None:
        """Process a final kline of a minute already closed: the first one stays unless REST's row differs."""
        series, kline = row.series, row.kline
        first = self._unwritten.get((series, kline.open_ms))
        if first is not None:
            is_same = first == kline
        elif not is_held:
            await self._enqueue(row)  # late: the kline fills a gap
            return
        elif tail and tail.rows and tail.start_ms <= kline.open_ms < tail.end_ms:
            is_same = tail.rows[tail.index(kline.open_ms)] == tail.encode(kline)
        else:
            self._disputes.doubt(series, kline)
            return
        if not is_same:
            self._disputes.dispute(series, kline.open_ms)

    async def _close(self, row: _Row) -> None:
        series, grid, open_ms = row.series, row.series.interval.grid, row.kline.open_ms
        span = Span(open_ms, grid.shift(open_ms, 1))
        if not self._holdings.ledger(series).writable(span, row.source):
            return  # the exchange's own kline of this interval is held already and outranks this one
        self._tail.close(series, grid, row.kline)
        self._drop(series, span)
        await self._enqueue(row)

    async def _enqueue(self, row: _Row) -> None:
        if row.series.interval == M1:
            self._unwritten[row.series, row.kline.open_ms] = row.kline
        await self._queue.put(row)

    async def write(self) -> None:
        """Write queued klines in batches, forever. A batch that cannot be written is kept and retried."""
        failures = 0
        while True:
            await self._fill_batch()
            try:
                await self._write_batch()
                failures = 0
            except StoreUnavailable as error:
                failures += 1
                self._observe(CommitFailed(len(self._batch), str(error)))
                await self._clock.sleep(ceiling_s(failures, RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX))

    async def flush(self) -> None:
        """Write all accepted klines; for shutdown, after the sockets are closed. Raises StoreUnavailable."""
        while self._batch or not self._queue.empty():
            self._drain()
            await self._write_batch()

    async def _fill_batch(self) -> None:
        if not self._batch:
            self._batch.append(await self._queue.get())
            await self._clock.sleep(BATCH_DELAY_S)
        self._drain()

    def _drain(self) -> None:
        while len(self._batch) < BATCH_ROWS_MAX and not self._queue.empty():
            self._batch.append(self._queue.get_nowait())

    async def _write_batch(self) -> None:
        if self._batch:
            await self._committer.commit_first(_batches(self._batch))
            for row in self._batch:
                self._unwritten.pop((row.series, row.kline.open_ms), None)
            self._batch = []


@lru_cache(SYMBOLS_MAX)
def _minutes(symbol: str) -> Series:
    return Series(KLINES, symbol, M1)


def _batches(items: list[_Row]) -> list[Batch]:
    grouped: dict[tuple[Series, Source, int, Precision], dict[int, Kline]] = defaultdict(dict)
    for series, source, kline, as_of, precision in items:
        grouped[series, source, as_of, precision][kline.open_ms] = kline
    return [
        Batch(
            series,
            source,
            Spans(Span(open_ms, series.interval.grid.shift(open_ms, 1)) for open_ms in klines),
            [klines[open_ms] for open_ms in sorted(klines)],
            as_of if source is Source.ROLLUP else None,
            precision=precision,
        )
        for (series, source, as_of, precision), klines in grouped.items()
    ]
