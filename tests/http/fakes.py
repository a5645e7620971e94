"""Fake services, a clock that the test moves, and the node's HTTP application on top of them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from app.access.key_gate import KeyGate
from app.binance.error_body import BinanceError
from app.collecting.collector import Collector
from app.domain import letters
from app.domain.interval import M1, Interval
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.download import Downloads
from app.holding.coverage_days import CoverageDays
from app.holding.inventory import Inventory
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.http.admin_guard import AdminGuard, LocalToken
from app.http.app import create_http_app
from app.http.dashboard import Dashboard
from app.http.direct import Timings
from app.http.market_pages import MarketPages
from app.http.page_cache import PageCache
from app.http.protocol import BoundedProtocol
from app.http.services import Services
from app.kinds.registry import KINDS
from app.market.book_starts import BookStarts
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.market.stream_hub import Hub
from app.ports.arrow import ArrowKlines
from app.ports.coordination import RpcRequest, RpcResponse, WriterRpcClient
from app.ports.errors import NotRecorded
from app.ports.tracing import RequestTraces
from app.querying.answer import END_OF_TIME_MS, Answer, KlineQuery, Shortfall
from app.querying.bars import Bars
from app.querying.batch import BatchKlines
from app.querying.rolling_query import RollingKlines
from app.querying.statistics import HeldAnswer, StatisticsQuery
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.connections import Connections
from infra.exporting.arrow_bytes import ArrowBytes

# hypothesis runs its examples in a thread here, and warns when other threads use the random module meanwhile
OTHERS_MAY_USE_RANDOM = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)
NOT_BUILT = Path("/nonexistent/dist")
NOW_MS = 1_700_000_000_000
LOCAL_TOKEN = "the-content-of-a-file-that-is-private"
LOCAL = {"authorization": f"Bearer {LOCAL_TOKEN}"}
SYMBOLS = ("BTCUSDT", "ETHUSDT", "币安人生USDT")
WISH = Wish(SYMBOLS, (M1,), 2, {}, {})


class FakeStatistics:
    """Statistics of which nothing is held, or `answer` for every question."""

    def __init__(self) -> None:
        self.answer: HeldAnswer | None = None

    def keeps(self, series: Series) -> bool:
        return self.answer is not None

    async def held(self, query: StatisticsQuery) -> HeldAnswer | None:
        return self.answer

    async def learn(self, query: StatisticsQuery, body: bytes) -> None:
        raise AssertionError(f"nothing of {query.series} is kept")


class ManualClock:
    is_trusted = True

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, delay_s: float) -> None:
        assert not delay_s, f"nothing here waits, least of all {delay_s} s"


def kline_body(rows: int = 500) -> bytes:
    prices, volumes = (
        '"37000.10","37010.00","36990.90","37005.20","123.456"',
        '"4567890.12345",1234,"60.123","2224551.00000"',
    )
    row = f'[{{}},{prices},{{}},{volumes},"0"]'
    opens = range(NOW_MS - rows * 60_000, NOW_MS, 60_000)
    return f"[{','.join(row.format(each, each + 59_999) for each in opens)}]".encode()


class FakeQuery:
    """A query service that answers every query with `body`; `meanwhile` runs while it computes."""

    def __init__(self, body: bytes = b"[]") -> None:
        self.body = body
        self.asked: list[KlineQuery] = []
        self.is_live = False
        self.is_in_memory = False
        self.touches = Span(0, END_OF_TIME_MS)
        self.valid_until_ms = END_OF_TIME_MS
        self.shortfall: Shortfall | None = None
        self.error: Exception | None = None
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.listed_since: set[str] = set()

    async def answer(self, query: KlineQuery) -> Answer:
        self.asked.append(query)
        answer = Answer(
            self.body,
            query.series,
            self.touches,
            self.is_live,
            self.valid_until_ms,
            self.shortfall if query.allow_partial else None,
        )
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return answer

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        if not self.is_in_memory:
            return None
        self.asked.append(query)
        return Answer(self.body, query.series, self.touches, self.is_live, self.valid_until_ms)

    def symbol(self, text: str) -> str | None:
        return name if (name := letters.upper(text)) in {*SYMBOLS, *self.listed_since} else None

    def name(self, text: str) -> str | None:
        symbol, at, suffix = text.partition("@")
        found = self.symbol(symbol)
        return None if found is None or suffix not in KINDS else f"{found}{at}{suffix}"

    def keeps(self, series: Series) -> bool:
        return False

    def listed(self, text: str) -> str | None:
        return self.symbol(text)


class FakeNames:
    """Names of which `new` are listed at the exchange, but unknown to the query service until they are looked up."""

    def __init__(self, query: FakeQuery) -> None:
        self._query = query
        self.new: set[str] = set()
        self.learnt: list[str] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.asked: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str]] = []

    async def learn(self, name: str) -> bool:
        self.learnt.append(name)
        if self.meanwhile is not None:
            await self.meanwhile()
        self._query.listed_since |= self.new & {name}
        return name in self.new

    def asking(self, path: str, name: str) -> AbstractContextManager[None]:
        self.asked.append((path, name))
        return nullcontext()

    def note(self, path: str, name: str, error: BinanceError | None) -> None:
        if error is not None:
            self.refused.append((path, name))


class FakeSymbols:
    def __init__(self) -> None:
        self.info: bytes | None = None
        self.error: Exception | None = None

    def exchange_info(self) -> bytes | None:
        return self.info

    async def refresh(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.error is not None:
            raise self.error
        return ("NEWUSDT",), ()


class FakeHealth:
    def __init__(self) -> None:
        self.is_ready = False

    def report(self) -> dict[str, object]:
        return {"status": "degraded", "why": ["no socket"]}

    def ready(self) -> tuple[bool, dict[str, object]]:
        return self.is_ready, {"ready": self.is_ready}


class FakeCoverage:
    async def full_report(
        self, symbol: str | None, interval: Interval | None, offset: int, limit: int, *, incomplete: bool = False
    ) -> dict[str, object]:
        if symbol == "ETHUSDT":
            raise RuntimeError("a secret of the inside")
        page = {"symbol": symbol, "interval": interval and interval.code, "offset": offset, "limit": limit}
        return {**page, **({"incomplete": True} if incomplete else {})}


class FakeOverview:
    def report(self) -> dict[str, object]:
        found: dict[str, object] = {name: {} for name in ("health", "exchange", "numbers", "close_lag")}
        return {"as_of": NOW_MS, "version": "0", "jobs": [], **found}


class FakeAsOf:
    """Answers that name the question; before NOW_MS - 1000 nothing was recorded."""

    async def klines(self, query: KlineQuery, at_ms: int) -> Answer:
        return Answer(self._body(query.series, at_ms), query.series, Span(0, 1), False, at_ms)

    async def rows(self, query: StatisticsQuery, at_ms: int) -> HeldAnswer:
        return HeldAnswer(self._body(query.series, at_ms), 0)

    async def coverage(
        self, name: str | None, interval: Interval | None, offset: int, limit: int, at_ms: int, *, incomplete: bool
    ) -> dict[str, object]:
        if at_ms < NOW_MS - 1_000:
            raise NotRecorded("not recorded")
        return {"as_of": at_ms}

    def _body(self, series: Series, at_ms: int) -> bytes:
        if at_ms < NOW_MS - 1_000:
            raise BinanceError(400, -1130, "not recorded")
        return f'["{series}",{at_ms}]'.encode()


class FakeBackfill:
    def __init__(self) -> None:
        self.requests: list[tuple[Sequence[Series], Span]] = []
        self.withdrawn: list[tuple[Sequence[Series], Span]] = []

    async def request(self, series: Sequence[Series], span: Span) -> None:
        self.requests.append((series, span))

    async def withdraw(self, series: Sequence[Series], span: Span) -> tuple[int, int]:
        self.withdrawn.append((series, span))
        return len(series), 0


class FakeVerify:
    def __init__(self) -> None:
        self.requests: list[tuple[Sequence[Series], Span, bool]] = []
        self.error: Exception | None = None

    def request(self, series: Sequence[Series], span: Span, *, by_rows: bool = False) -> int:
        if self.error is not None:
            raise self.error
        self.requests.append((series, span, by_rows))
        return len(self.requests)

    def report(self) -> dict[str, object]:
        if self.error is not None:
            raise self.error
        return {"audits": [{"audit": number + 1} for number in range(len(self.requests))]}


class FakeMarket:
    """Market data that answers every question with `body`, valid for one second."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.status, self.body = 200, b'{"held":"no"}'
        self.fresh_ms = self.thrifty_ms = 1_000
        self.error: Exception | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._news = asyncio.Event()

    async def until_asked(self, number: int) -> None:
        """Wait until `number` questions were asked."""
        while len(self.asked) < number:
            self._news.clear()
            await self._news.wait()

    async def fetch(self, question: Question) -> Fetched:
        self.asked.append(question)
        self._news.set()
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return Fetched(self.status, self.body, self.fresh_ms, self.thrifty_ms)


class FakeLine:
    """The forward to the writer: this process is the writer, unless it is given an RPC connection to another one."""

    def __init__(self, line: WriterRpcClient | None = None) -> None:
        self.line = line

    async def is_elsewhere(self) -> bool:
        return self.line is not None

    async def ask(self, request: RpcRequest) -> RpcResponse:
        assert self.line is not None
        return await self.line.ask(request)


async def _never_revised(_series: Series, _window: Span, _limit: int) -> list[int]:
    return []


def no_metrics(_app: FastAPI) -> None:
    """Replaces the Prometheus instrumentation and does nothing."""


@dataclass
class Node:
    """The node's HTTP application on fake services."""

    admin_token: str | None = None
    local_token: Callable[[], str] = lambda: LOCAL_TOKEN
    only_final_default: bool = True
    bytes_max: int = 10_000_000
    ttl_s: int = 10
    query: FakeQuery = field(default_factory=FakeQuery)
    symbols: FakeSymbols = field(default_factory=FakeSymbols)
    health: FakeHealth = field(default_factory=FakeHealth)
    coverage: FakeCoverage = field(default_factory=FakeCoverage)
    backfill: FakeBackfill = field(default_factory=FakeBackfill)
    verify: FakeVerify = field(default_factory=FakeVerify)
    market: FakeMarket = field(default_factory=FakeMarket)
    statistics: FakeStatistics = field(default_factory=FakeStatistics)
    line: FakeLine = field(default_factory=FakeLine)
    clock: ManualClock = field(default_factory=ManualClock)
    instrument: Callable[[FastAPI], None] = no_metrics
    gate: KeyGate | None = None
    collector: Callable[[], Collector | None] = lambda: None
    downloads: Downloads | None = None
    arrow: ArrowKlines = field(default_factory=ArrowBytes)
    dashboard: Dashboard = field(default_factory=lambda: Dashboard(NOT_BUILT))
    traces: RequestTraces | None = None

    def __post_init__(self) -> None:
        self.pages = PageCache(self.bytes_max, self.clock, self.ttl_s)
        self.is_weight_short = False
        self.market_pages = MarketPages(self.clock, lambda: self.is_weight_short)
        self.hub = Hub(self.clock)
        self.book_starts = BookStarts(self.hub, self.clock)
        self.names = FakeNames(self.query)
        self.ledgers = LedgerCache()
        self.app = create_http_app(
            Services(
                self.query,
                self.symbols,
                self.health,
                self.coverage,
                self.backfill,
                self.verify,
                self.market,
                self.statistics,
                FakeStatistics(),
                FakeAsOf(),
                self.line,
                self.book_starts,
                self.names,
                BatchKlines(self.clock, self.query, lambda: SYMBOLS),
                RollingKlines(
                    self.clock, LedgerCache(), Tail(1_000_000, lambda: True), self.query.answer, lambda: WISH
                ),
                Bars(self.clock, self.ledgers, Tail(1_000_000, lambda: True), self.query.answer, _never_revised),
                self.arrow,
                FakeOverview(),
                CoverageDays(self.clock, Inventory(self.ledgers, lambda: WISH)),
                self.collector,
                self.downloads,
            ),
            pages=self.pages,
            clock=self.clock,
            market_pages=self.market_pages,
            instrument=self.instrument,
            timings=Timings(),
            admin=AdminGuard(self.admin_token, LocalToken("klinenode.db.token", self.local_token)),
            gate=self.gate,
            only_final_default=self.only_final_default,
            dashboard=self.dashboard,
            traces=self.traces,
        )

    def client(self, host: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that calls the application directly, with `host` as its address."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(host, 40_000))
        hooks = {"response": [_says_why]}
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", event_hooks=hooks)

    def operator(self) -> httpx.AsyncClient:
        """A client on this machine that sends the token of the token file."""
        client = self.client()
        client.headers.update(LOCAL)
        return client


async def _says_why(answer: httpx.Response) -> None:
    """Assert that a 503 has a documented reason and Retry-After, and that no other status has a reason.

    What was not held at a past time, or is not wished, is not worth waiting for: such a refusal may lack Retry-After.
    """
    if answer.status_code == 503:
        assert answer.headers.get("x-klinenode-reason") in set(Reason), answer.url
        if answer.headers["x-klinenode-reason"] != Reason.NOT_HELD:
            assert int(answer.headers["retry-after"]) > 0, answer.url
    else:
        assert "x-klinenode-reason" not in answer.headers


@asynccontextmanager
async def served(
    app: ASGIApp, lifespan: Literal["on", "off"] = "off", connections: Connections | None = None
) -> AsyncIterator[int]:
    """Serve `app` with a real uvicorn on loopback, with the test's own connection bounds; yields the port."""
    # the protocol is named so that asyncio sets TCP_NODELAY (Nagle's delay costs 40 ms a request)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                log_level="critical",
                access_log=False,
                lifespan=lifespan,
                proxy_headers=False,
            )
        )
        started = asyncio.Event()
        startup = server.startup

        async def startup_and_tell(sockets: list[socket.socket] | None = None) -> None:
            if connections is not None:
                server.lifespan.state[CONNECTIONS] = connections
            await startup(sockets)
            started.set()

        server.startup = startup_and_tell  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]))
            await started.wait()
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True


class RawAnswer:
    """An HTTP response as received, split into status, headers and body."""

    def __init__(self, wire: bytes) -> None:
        head, _, self.body = wire.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.header_list = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])]
        self.headers = dict(self.header_list)


async def wire(port: int, target: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = ()) -> RawAnswer:
    """Send one request on a connection of its own; return the response byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return RawAnswer(answer)
