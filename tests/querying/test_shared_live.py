"""Klines in progress are the writer's: it is asked four times a second at most, and not believed when it is behind."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.holding.tail import Live
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.querying.in_progress import InProgress
from app.querying.shared_live import ASKED_AT_ONCE_MAX, AWAY_MS, TTL_MS, SharedLive
from tests.fakes import BTC, NOW_MS, ManualClock, encoded, minute
from tests.querying.query_desk import HOURS, Desk, desk

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

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
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


async def test_without_a_shared_cache_each_process_asks_four_times_a_second(nodes: Nodes) -> None:
    nodes.cache.is_usable = False
    for _ in range(3):
        for node in (nodes.one, nodes.other):
            assert await node.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
            assert node.kept(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    assert (len(nodes.asked), nodes.cache.values) == (2, {})
    nodes.clock.ms += TTL_MS
    assert nodes.one.kept(BTC, M1.grid, OPEN_MS) is None
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    assert len(nodes.asked) == 3


async def test_whoever_is_not_answered_asks_the_exchange(nodes: Nodes) -> None:
    def unreachable() -> RpcResponse:
        raise WriterUnreachable("nobody writes")

    for answer in (lambda: RpcResponse(503, [], b"{}"), lambda: RpcResponse(200, [], b"[]"), unreachable):
        nodes.answer = answer
        for _ in range(2):
            assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
        nodes.clock.ms += TTL_MS
    assert (len(nodes.asked), nodes.cache.values) == (3, {})
    assert await nodes.one.rows(HOURS, HOURS.interval.grid, HOURS.interval.grid.floor(NOW_MS)) is None
    assert len(nodes.asked) == 3, "a writer that was not there is not asked for another series either"
    nodes.clock.ms += AWAY_MS
    nodes.is_writer = True
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is None
    assert len(nodes.asked) == 3


async def test_hundreds_of_series_at_once_are_asked_for_in_turns(nodes: Nodes) -> None:
    at_once = most = 0

    async def ask(_: RpcRequest) -> RpcResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        for _turn in range(3):
            await nodes.clock.sleep(0)
        at_once -= 1
        return RpcResponse(200, [], body_of(OPEN_MS))

    shared = SharedLive(nodes.clock, nodes.cache, ask, lambda: None, lambda: False)
    series = [BTC._replace(symbol=f"S{number}USDT") for number in range(10 * ASKED_AT_ONCE_MAX)]
    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(shared.rows(each, M1.grid, OPEN_MS)) for each in series]
    assert {tuple(task.result() or ()) for task in found} == {tuple(rows_of(OPEN_MS))}
    assert most == ASKED_AT_ONCE_MAX


def asking(at: Desk, nodes: Nodes) -> InProgress:
    """What finds klines in progress in the first of the nodes; the exchange is the desk's."""
    return InProgress(at.rig.clock, at.upstream, at.rig.tail, at.rolling, lambda series: None, nodes.one)


async def test_an_answer_of_the_exchange_is_not_served_while_the_writer_has_a_newer_kline(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        nodes = Nodes(at.rig.clock)
        in_progress = asking(at, nodes)
        of_exchange = at.rig.exchange.kline(BTC, OPEN_MS)
        nodes.answer = lambda: RpcResponse(503, [], b"{}")
        assert await in_progress.rows(BTC, M1.grid, OPEN_MS) == [encoded(BTC, [of_exchange])[1:-1]]
        assert len(at.rig.exchange.asked) == 1

        trades = of_exchange.trades
        for more, served in ((5, 5), (9, 9), (7, 9), (12, 12)):
            at.rig.clock.ms += TTL_MS
            body = encoded(BTC, [of_exchange._replace(trades=trades + more)])
            nodes.answer = partial(RpcResponse, 200, [], body)
            expected = [encoded(BTC, [of_exchange._replace(trades=trades + served)])[1:-1]]
            assert in_progress.known(BTC, M1.grid, OPEN_MS) is None, "the writer is asked, though the exchange was"
            assert await in_progress.rows(BTC, M1.grid, OPEN_MS) == expected
            assert in_progress.known(BTC, M1.grid, OPEN_MS) == expected
        at.rig.clock.ms += TTL_MS
        nodes.answer = lambda: RpcResponse(503, [], b"{}")
        assert await in_progress.rows(BTC, M1.grid, OPEN_MS) == expected, "the newest known, without the writer too"
        assert len(at.rig.exchange.asked) == 1


async def test_an_older_answer_of_the_exchange_does_not_follow_a_newer_frame(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        nodes = Nodes(at.rig.clock)
        nodes.is_writer = True
        in_progress = asking(at, nodes)
        newer = at.rig.exchange.kline(BTC, OPEN_MS)
        newer = newer._replace(trades=newer.trades + 3)
        at.rig.tail.set_live(BTC, M1.grid, Live(newer, at.rig.clock.ms, from_socket=True))
        at.rig.clock.ms += BTC.kind.live_age_ms_max + 1
        assert await in_progress.rows(BTC, M1.grid, OPEN_MS) == [encoded(BTC, [newer])[1:-1]]
        assert len(at.rig.exchange.asked) == 1


async def test_values_of_others_are_none(nodes: Nodes) -> None:
    assert await nodes.one.rows(BTC, M1.grid, OPEN_MS) is not None
    for key, (value, end_ms) in nodes.cache.values.items():
        nodes.cache.values[key] = value[:-5] + b"9" + value[-4:], end_ms
    assert await nodes.other.rows(BTC, M1.grid, OPEN_MS) == rows_of(OPEN_MS)
    assert len(nodes.asked) == 2
