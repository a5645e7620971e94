"""A fake exchange, archive, sockets and clock that tests control, around the real SQLite store."""

import asyncio
import hashlib
import heapq
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Self, TypeVar

import orjson

from app.binance import metrics_csv, rest_rows
from app.binance.archive_csv import ArchiveFile
from app.binance.metrics_csv import MetricsDay
from app.binance.metrics_days import joined
from app.binance.stream_event import KlineEvent
from app.domain.columns import Columns
from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MINUTE_MS, FixedGrid, Grid, Interval
from app.domain.kline import Kline, Precision
from app.domain.ledger import Ledger, Source
from app.domain.listing import Listing
from app.domain.rollup import roll_up
from app.domain.rollup_columns import roll_up_days
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.domain.symbol import Symbol
from app.domain.verification import Verification
from app.events import Event
from app.holding.commit import Committer
from app.holding.copies import Copies
from app.holding.ledger_cache import LedgerCache
from app.holding.rolling import Rolling
from app.holding.symbol_sync import Selection, SymbolSync
from app.holding.tail import Tail
from app.ingest.dispute import Disputes
from app.kinds.klines import KLINES
from app.ports.clock import Clock
from app.ports.errors import NotPublished, StoreUnavailable, UpstreamError, UpstreamUnavailable
from app.ports.exchange import DayRead, FileKlines, FileMetrics, Priority
from app.ports.store import BlockCheck, Committed, Disagreement, Relisting, Sealed, Snapshot
from app.runtime import Runtime
from infra.sqlite.sqlite_store import SqliteWriter

T = TypeVar("T")
Kind = TypeVar("Kind", bound=Event)

DAY0_MS = 1_795_219_200_000  # 2026-11-21 00:00 UTC, a Saturday
NOW_MS = DAY0_MS + 14 * 3_600_000 + 10 * MINUTE_MS + 30_000  # 14:10:30
PRECISION = Precision(2, 3)
ANCHOR_MS = DAY_MS  # one open time of the exchange's 3d grid
BTC = Series(KLINES, "BTCUSDT", M1)


# --- time --------------------------------------------------------------------------------------------------------


async def turn(times: int = 1) -> None:
    """Let every task that is ready run, `times` rounds of the event loop."""
    loop = asyncio.get_running_loop()
    for _ in range(times):
        passed = loop.create_future()
        loop.call_soon(passed.set_result, None)
        await passed


class ManualClock:
    """A clock that only the test moves; sleepers wake in the order of their wake-up times."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms
        self.put_ms = 0
        """How far (ms) the clock has been set forward or back; the steady time does not include it."""
        self.slept_s: list[float] = []
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = 0

    def now_ms(self) -> int:
        return self.ms

    def steady_ms(self) -> int:
        return self.ms - self.put_ms

    def boot(self) -> str:
        return "this boot"

    def put(self, by_ms: int) -> None:
        self.ms += by_ms
        self.put_ms += by_ms

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        if delay_s <= 0:
            return await turn()
        self._number += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.ms + round(delay_s * 1000), self._number, woken))
        return await woken

    async def advance(self, delay_s: float, settle: Callable[[], Awaitable[None]]) -> None:
        """Move the clock by `delay_s`, waking sleepers in order; `settle` runs after each wake-up."""
        target_ms = self.ms + round(delay_s * 1000)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target_ms:
            wake_ms, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self.ms = max(self.ms, wake_ms)
            woken.set_result(None)
            await settle()
        self.ms = target_ms
        await settle()


# --- the exchange ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=500_000)
def minute(symbol: str, open_ms: int) -> Kline:
    """The exchange's 1m kline: about one in seven has no trades and is flat at the previous close."""
    mark = zlib.crc32(f"{symbol}{open_ms}".encode())
    if mark % 7 == 0:
        close = minute(symbol, open_ms - MINUTE_MS).close
        return Kline(open_ms, close, close, close, close, "0", "0", 0, "0", "0")
    low, spread, volume = 1000 + mark % 500, mark % 37, 1 + mark % 9000
    return Kline(
        open_ms,
        f"{low + spread // 3}.10",
        f"{low + spread}.95",
        f"{low}.05",
        f"{low + spread // 2}.50",
        f"{volume}.125",
        f"{volume * low}.12500",
        1 + mark % 1000,
        f"{volume // 2}.000",
        f"{volume // 2 * low}.00100",
    )


def true_grid(interval: Interval) -> Grid:
    return interval.anchored(ANCHOR_MS)


_H1: Final = INTERVALS["1h"]


@lru_cache(maxsize=100_000)
def truth(symbol: str, interval: Interval, open_ms: int, first_minute_ms: int = 0) -> Kline:
    """The exchange's closed kline of `interval` that opens at `open_ms`, made of minutes from `first_minute_ms` on."""
    if interval == M1:
        return minute(symbol, open_ms)
    grid = true_grid(interval)
    start_ms, end_ms = max(open_ms, first_minute_ms), grid.shift(open_ms, 1)
    longest = (part for part in (D1, _H1, M1) if grid.step_ms > part.grid.step_ms and start_ms % part.grid.step_ms == 0)
    part = next(longest)  # the longest of these that is shorter and fits
    parts = (truth(symbol, part, each) for each in range(start_ms, end_ms, part.grid.step_ms))
    return roll_up(parts, FixedGrid(end_ms - open_ms, open_ms))[0]


def listing(symbol: str, onboard_ms: int = 0, *, quote_asset: str = "USDT", status: str = "TRADING") -> Symbol:
    return Symbol(symbol, "PERPETUAL", quote_asset, status, onboard_ms, 4_133_404_800_000, PRECISION)


@dataclass
class Asked:
    """One klines request as the exchange received it."""

    series: Series
    window: Span | None
    limit: int
    priority: Priority
    now_ms: int


class Exchange:
    """A RestApi that answers with `truth`: klines begin at `first_ms`; opens in `lacking` are left out of answers."""

    def __init__(self, clock: Clock, first_ms: int = 0) -> None:
        self._clock = clock
        self.first_ms = first_ms
        self.begins_ms: dict[str, int] = {}
        """By symbol: where its klines begin, if not at `first_ms`."""
        self.last_ms = 1 << 60
        """Where all klines end: for a delisted symbol, or an exchange that has stopped."""
        self.lacking: set[tuple[Series, int]] = set()
        self.stated: dict[tuple[Series, int], Kline] = {}  # klines that differ from the other intervals'
        self.error: UpstreamError | None = None
        self.gate: Callable[[Asked], Awaitable[None]] | None = None
        self.asked: list[Asked] = []
        self.symbols = [listing("BTCUSDT"), listing("ETHUSDT")]
        self.info: bytes | None = None
        self.info_requests = 0
        self.time_offset_ms = 0
        self.time_takes_s = 0.0

    def kline(self, series: Series, open_ms: int) -> Kline:
        stated = self.stated.get((series, open_ms))
        return stated or truth(series.name, series.interval, open_ms, self.first_ms)

    def opens(self, series: Series, span: Span, limit: int | None = None) -> list[int]:
        """The open times that exist in `span`, at most the first `limit`."""
        grid = true_grid(series.interval)
        start_ms = max(span.start_ms, grid.floor(self.begins_ms.get(series.symbol, self.first_ms)))
        found = []
        for open_ms in grid.opens(start_ms, min(span.end_ms, grid.floor(self._clock.now_ms()) + 1, self.last_ms)):
            if (series, open_ms) not in self.lacking:
                found.append(open_ms)
                if len(found) == limit:
                    break
        return found

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> list[Kline]:
        assert 1 <= limit <= 1500
        assert window is None or window
        asked = Asked(series, window, limit, priority, self._clock.now_ms())
        self.asked.append(asked)
        await turn()
        if self.gate is not None:
            await self.gate(asked)
        if self.error is not None:
            raise self.error
        if window is None:
            now_ms = self._clock.now_ms()
            own = true_grid(series.interval)
            newest_ms = own.floor(min(now_ms, self.last_ms - 1))
            window = Span(max(0, own.shift(newest_ms, 1 - limit)), now_ms + 1)
            return [self.kline(series, each) for each in self.opens(series, window)][-limit:]
        if newest:
            assert window.start_ms == 0
            end_ms = min(window.end_ms, self.last_ms)
            window = Span(max(self.first_ms, true_grid(series.interval).shift(end_ms, -limit - 2_000)), end_ms)
            return [self.kline(series, each) for each in self.opens(series, window)[-limit:]]
        return [self.kline(series, each) for each in self.opens(series, window, limit)]

    async def exchange_info(self, priority: Priority) -> bytes:
        self.info_requests += 1
        await turn()
        if self.error is not None:
            raise self.error
        return self.info if self.info is not None else info_of(self.symbols)

    async def server_time_ms(self, priority: Priority) -> int:
        if self.error is not None:
            raise self.error
        if self.time_takes_s:
            await self._clock.sleep(self.time_takes_s)
        return self._clock.now_ms() + self.time_offset_ms

    def windows(self, series: Series = BTC) -> list[Span]:
        return [asked.window for asked in self.asked if asked.series == series and asked.window is not None]


def info_of(symbols: Sequence[Symbol]) -> bytes:
    return orjson.dumps(
        {
            "symbols": [
                {
                    "symbol": each.name,
                    "contractType": each.contract_type,
                    "quoteAsset": each.quote_asset,
                    "status": each.status,
                    "onboardDate": each.onboard_ms,
                    "deliveryDate": each.delivery_ms,
                    "pricePrecision": each.precision.price,
                    "quantityPrecision": each.precision.quantity,
                }
                for each in symbols
            ]
        }
    )


class Vault:
    """An archive with a file for every span in which the exchange has klines, unless the test says otherwise."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.first_ms: int | None = None
        """Where its files begin, if not where the exchange's klines do."""
        self.errors: dict[str, UpstreamError] = {}
        self.error: UpstreamError | None = None
        self.lacking: set[int] = set()
        self.asked: list[str] = []
        self.files: list[ArchiveFile] = []
        self.days: dict[MetricsDay, bytes] = {}
        """The CSV of each file of metrics."""

    async def fetch(
        self, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        self.asked.append(file.name)
        self.files.append(file)
        await turn()
        if error := self.errors.get(file.name, self.error):
            raise error
        series = Series(KLINES, file.symbol, file.interval)
        opens = [each for each in self._opens(file) if each not in self.lacking]
        if not opens:
            raise NotPublished(file.name)
        rows = Columns.of([self._exchange.kline(series, each) for each in opens])
        return FileKlines(rows, roll_up_days(rows, precision, longer) if longer else {})

    async def has(self, file: ArchiveFile) -> bool:
        await turn()
        if error := self.errors.get(file.name, self.error):
            raise error
        return bool(self._opens(file))

    async def metrics(self, files: Sequence[MetricsDay]) -> FileMetrics:
        await turn()
        read: dict[MetricsDay, DayRead] = {}
        failed: dict[MetricsDay, UpstreamError] = {}
        found = []
        for file in files:
            self.asked.append(file.name)
            try:
                sha256 = self._sha256(file)
            except UpstreamError as error:
                failed[file] = error
                continue
            found.append(metrics_csv.parse(self.days[file], file.symbol, file.day_ms))
            read[file] = DayRead(sha256, found[-1].report)
        return FileMetrics(*joined(found), read, failed)

    async def metrics_sha256(self, file: MetricsDay) -> str:
        await turn()
        return self._sha256(file)

    def _sha256(self, file: MetricsDay) -> str:
        if error := self.errors.get(file.name, self.error):
            raise error
        if file not in self.days:
            raise NotPublished(file.name)
        return hashlib.sha256(self.days[file]).hexdigest()

    def _opens(self, file: ArchiveFile) -> list[int]:
        series = Series(KLINES, file.symbol, file.interval)
        if self.first_ms is None:
            return self._exchange.opens(series, file.span)
        return list(true_grid(series.interval).opens(max(file.span.start_ms, self.first_ms), file.span.end_ms))


class Streams:
    """MarketSockets that deliver the events a test puts into `queue`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[KlineEvent] = asyncio.Queue()
        self.wanted: list[Series] = []
        self.heard: dict[Series, int] = {}
        self.closed: dict[Series, int] = {}

    def want(self, streams: Collection[Series]) -> None:
        self.wanted = list(streams)

    async def events(self) -> AsyncIterator[KlineEvent]:
        while True:
            yield await self.queue.get()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def heard_ms(self, series: Series) -> int | None:
        return self.heard.get(series)

    def exists(self, series: Series, closed_ms: int) -> None:
        self.closed[series] = closed_ms

    def status(self) -> dict[str, object]:
        return {"0": {"streams": len(self.wanted)}}


# --- the store ---------------------------------------------------------------------------------------------------


class Store(SqliteWriter):
    """The real store; it counts the calls in progress, and commits fail on request."""

    under_way = 0
    failing = False
    commits: list[list[Batch]]
    reads: int = 0
    printed: int = 0
    """The number of reads that the database printed itself."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """Called once, after the next printed read."""
    idle: asyncio.Event

    @classmethod
    async def made(cls, folder: Path, clock: Clock) -> Self:
        store = await cls.open(f"sqlite:///{folder}/klinenode.db", clock)
        store.commits, store.idle = [], asyncio.Event()
        return store

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        async def work() -> list[Committed]:
            if self.failing:
                raise StoreUnavailable("locked, says the test")
            done = await SqliteWriter.commit(self, batches)
            self.commits.append(list(batches))
            return done

        return await self.counted(work())

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        self.reads += 1
        return await self.counted(SqliteWriter.read(self, series, window, limit, newest=newest))

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        self.reads += 1
        self.printed += 1
        found = await self.counted(SqliteWriter.read_encoded(self, series, window, limit, newest=newest))
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found

    async def seal(self, series: Series, window: Span) -> Sealed:
        async def work() -> Sealed:
            if self.failing:
                raise StoreUnavailable("locked, says the test")
            return await SqliteWriter.seal(self, series, window)

        return await self.counted(work())

    async def check_blocks(self, after: int, number: int) -> BlockCheck:
        return await self.counted(SqliteWriter.check_blocks(self, after, number))

    async def give_up(self, series: Series, span: Span) -> Ledger | None:
        async def work() -> Ledger | None:
            if self.failing:
                raise StoreUnavailable("locked, says the test")
            return await SqliteWriter.give_up(self, series, span)

        return await self.counted(work())

    async def document(self, name: str) -> tuple[bytes, int] | None:
        return await self.counted(SqliteWriter.document(self, name))

    async def save_verified(self, series: Series, spans: Spans, at_ms: int) -> Verification:
        return await self.counted(SqliteWriter.save_verified(self, series, spans, at_ms))

    async def save_disagreement(self, disagreement: Disagreement) -> None:
        await self.counted(SqliteWriter.save_disagreement(self, disagreement))

    async def save_listings(self, listings: Sequence[Listing]) -> None:
        await self.counted(SqliteWriter.save_listings(self, listings))

    async def relist(self, relisting: Relisting) -> dict[Series, Ledger]:
        return await self.counted(SqliteWriter.relist(self, relisting))

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        return await self.counted(SqliteWriter.unlist(self, listing, since_ms))

    async def settled(self) -> None:
        """Return when no task can go on without the clock or the test."""
        while True:
            await turn(12)
            if not self.under_way:
                return
            self.idle.clear()
            await self.idle.wait()

    async def counted(self, work: Awaitable[T]) -> T:
        self.under_way += 1
        try:
            return await work
        finally:
            self.under_way -= 1
            self.idle.set()


def always() -> bool:
    """Return True: for a tail that no other process changes."""
    return True


class FakeListed:
    """The exchange's list of symbols; not read yet while `names` returns None."""

    def __init__(self) -> None:
        self.names: Callable[[], Collection[str] | None] = lambda: None
        self.looked: list[str] = []

    def is_listed(self, name: str) -> bool | None:
        names = self.names()
        return None if names is None else name in names

    async def learn(self, name: str) -> bool:
        self.looked.append(name)
        return False


async def nobody_keeps(*what: object) -> None:
    """Discard what a service would store."""


class Rig:
    """The dependencies of the services under test: clock, exchange, archive, store, and every holder of copies."""

    def __init__(self, clock: ManualClock, store: Store, exchange: Exchange) -> None:
        self.clock, self.store = clock, store
        self.exchange = exchange
        self.vault = Vault(self.exchange)
        self.streams = Streams()
        self.events: list[Event] = []
        self.dropped: list[tuple[Series, Span]] = []
        self.moved: list[str] = []
        self.holdings = LedgerCache()
        self.is_current = True
        self.tail = Tail(50_000_000, lambda: self.is_current)
        self.symbols = SymbolSync(
            clock,
            self.events.append,
            self.exchange,
            Selection(("BTCUSDT",), ("USDT",), ("PERPETUAL",), auto=True),
            nobody_keeps,
            lambda removed: None,
        )
        self.runtime = Runtime(clock, self.observe, 1)
        self.copies = self.copies_with(Rolling([M1]))
        self.committer = Committer(store, self.copies, self.observe)

    def copies_with(self, rolling: Rolling) -> Copies:
        """The rig's copies, but with the given roll-ups in progress."""
        return Copies(
            self.symbols,
            self.holdings,
            self.tail,
            rolling,
            lambda series, span: self.dropped.append((series, span)),
            self.moved.append,
        )

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def seen(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    async def advance(self, delay_s: float) -> None:
        await self.clock.advance(delay_s, self.store.settled)

    async def stored(self, series: Series = BTC) -> list[Kline]:
        return (await SqliteWriter.read(self.store, series, Span(0, 1 << 50), 1_000_000)).rows

    async def ledger(self, series: Series = BTC) -> Ledger:
        return (await SqliteWriter.read(self.store, series, Span(0, 1 << 50), 0)).ledger


def disputes_of(made: Rig) -> Disputes:
    """Disputes on the rig's parts, which store REST's rows in its store."""

    async def keep(series: Series, grid: Grid, klines: Sequence[Kline], source: Source) -> None:
        spans = Spans(Span(kline.open_ms, grid.shift(kline.open_ms, 1)) for kline in klines)
        await made.committer.commit([Batch(series, source, spans, klines)])

    return Disputes(made.clock, made.observe, made.exchange, made.store, made.holdings, keep)


@asynccontextmanager
async def rig(
    folder: Path, *, now_ms: int = NOW_MS, first_ms: int = 0, exchange: type[Exchange] = Exchange
) -> AsyncIterator[Rig]:
    clock = ManualClock(now_ms)
    store = await Store.made(folder, clock)
    try:
        yield Rig(clock, store, exchange(clock, first_ms))
    finally:
        await store.close()


@asynccontextmanager
async def running(*mains: Callable[[], Awaitable[None]]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run tasks during the `async with` block and cancel them at its end."""

    async def run(main: Callable[[], Awaitable[None]]) -> None:
        await main()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(main)) for main in mains]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()


def encoded(series: Series, klines: Sequence[Kline]) -> bytes:
    grid = true_grid(series.interval)
    return rest_rows.join(KLINES.encode(each, grid.shift(each.open_ms, 1) - 1) for each in klines)


def opens_of(spans: Spans | Sequence[Span], grid: Grid) -> list[int]:
    return [open_ms for span in spans for open_ms in grid.opens(*span)]


def unavailable() -> UpstreamUnavailable:
    return UpstreamUnavailable("down, says the test")


@dataclass
class Counter:
    """A callable that counts its calls."""

    calls: int = 0
    arguments: list[object] = field(default_factory=list)

    def __call__(self, *arguments: object) -> None:
        self.calls += 1
        self.arguments.append(arguments)
