"""Klines in progress are the writer's: it is asked once for all processes, and never believed when it is behind."""

from collections.abc import Callable

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.querying.shared_live import TTL_MS, SharedLive
from tests.fakes import BTC, NOW_MS, ManualClock, encoded, minute

OPEN_MS = M1.grid.floor(NOW_MS)


def body_of(*opens_ms: int) -> bytes:
    return encoded(BTC, [minute("BTCUSDT", each) for each in opens_ms])


def rows_of(*opens_ms: int) -> list[bytes]:
    return [body_of(each)[1:-1] for each in opens_ms]


class Cache:
    """A SharedCache of all processes; its values end when the clock says so."""

    errors = 0

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.is_usable = True
        self.values: dict[bytes, tuple[bytes, int]] = {}

    async def get(self, key: bytes) -> bytes | None:
        value, end_ms = self.values.get(key, (b"", 0))
        return value if end_ms > self._clock.ms else None

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        self.values[key] = value, self._clock.ms + ttl_ms

    async def run(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Nodes:
    """Two processes that do not write, and the writer whose answer is `body`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cache = Cache(self.clock)
        self.asked: list[RpcRequest] = []
        self.answer: Callable[[], RpcResponse] = lambda: RpcResponse(200, [], body_of(OPEN_MS - MINUTE_MS, OPEN_MS))
        self.is_writer = False
        self.generation: str | None = "a"
        self.one, self.other = (
            SharedLive(self.clock, self.cache, self.ask, lambda: self.generation, lambda: self.is_writer)
            for _ in range(2)
        )

    async def ask(self, request: RpcRequest) -> RpcResponse:
        self.asked.append(request)
        return self.answer()


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


async def test_the_writer_is_asked_once_for_all(nodes: Nodes) -> None:
    for node in (nodes.one, nodes.other, nodes.one):
        assert await node.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    [asked] = nodes.asked
    assert (asked.path, asked.query) == (
        "/fapi/v1/klines",
        "symbol=BTCUSDT&interval=1m&limit=2&only_final=false",
    )
    nodes.clock.ms += TTL_MS
    assert await nodes.other.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    assert len(nodes.asked) == 2


async def test_the_kline_that_has_just_ended_comes_with_the_new_one(nodes: Nodes) -> None:
    ended_ms = OPEN_MS - MINUTE_MS
    assert await nodes.one.rows(BTC, M1.grid, ended_ms) == rows_of(ended_ms, OPEN_MS)


async def test_a_writer_that_is_behind_is_not_believed(nodes: Nodes) -> None:
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is not None
    nodes.clock.ms += MINUTE_MS
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None, "a kline is missing"
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS + MINUTE_MS) is None


async def test_whoever_is_not_answered_asks_the_exchange(nodes: Nodes) -> None:
    def unreachable() -> RpcResponse:
        raise WriterUnreachable("nobody writes")

    for answer in (unreachable, lambda: RpcResponse(503, [], b"{}"), lambda: RpcResponse(200, [], b"[]")):
        nodes.answer = answer
        assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
    assert nodes.cache.values == {}
    asked = len(nodes.asked)
    nodes.generation = None
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
    nodes.generation, nodes.is_writer = "a", True
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
    nodes.is_writer, nodes.cache.is_usable = False, False
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
    assert len(nodes.asked) == asked


async def test_values_of_others_are_none(nodes: Nodes) -> None:
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is not None
    for key, (value, end_ms) in nodes.cache.values.items():
        nodes.cache.values[key] = value[:-5] + b"9" + value[-4:], end_ms
    assert await nodes.other.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    assert len(nodes.asked) == 2
