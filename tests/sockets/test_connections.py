"""Connections: how many there may be, which are dropped for new ones, their deadlines, and the kernel's buffers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.sockets.connections import (
    RECEIVE_KERNEL_BYTES,
    REPORT_EVERY_S,
    SEND_BYTES_MIN,
    SEND_KERNEL_BYTES,
    SURPLUS_MAX,
    Connection,
    Connections,
    Deadlines,
    Sending,
)
from tests.http.fakes import Node, RawAnswer, kline_body, served
from tests.http.offline import Loop
from tests.patience import PATIENCE_S

KLINES = b"/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
PING = b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"


class Watched(Connections):
    """Connections that set `gone` when one has ended."""

    def __init__(self, deadlines: Deadlines | None = None, connections_max: int = 100) -> None:
        super().__init__(deadlines, connections_max)
        self.gone = asyncio.Event()

    def leave(self, connection: Connection) -> None:
        super().leave(connection)
        self.gone.set()

    def only(self) -> Connection:
        (connection,) = self._open
        return connection


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 304 " not in head and b"X-Head: yes" not in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        return head


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        (KLINES, b"", b"200"),
        (KLINES, b"If-None-Match: *\r\n", b"304"),
        (b"/fapi/v1/ping", b"", b"200"),
        (b"/v1/health", b"", b"200"),
        (b"/nothing", b"", b"404"),
        (b"/fapi/v1/klines?symbol=NOPE&interval=1m", b"", b"400"),
        (b"/fapi/v1/klines?" + b"x" * 5_000, b"", b"414"),
        (KLINES, b"X: " + b"x" * 20_000 + b"\r\n", b"431"),
        (KLINES, b"Content-Length: 5\r\n", b"200"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_a_connection_is_kept_for_75_seconds_after_any_answer(
    target: bytes, more: bytes, status: bytes, is_in_memory: bool
) -> None:
    node, connections = Node(), Watched()
    node.query.body, node.query.is_in_memory = kline_body(), is_in_memory
    request = (
        b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n" + (b"hello" if b"Content" in more else b"")
    )
    async with served(node.app, connections=connections) as port, client(port) as (reader, writer):
        for _ in range(3):
            writer.write(request)
            assert (await answer(reader))[9:12] == status
            now_s = asyncio.get_running_loop().time()
            since_s = connections.only().idle_since_s()
            assert since_s is not None
            assert now_s - PATIENCE_S < since_s <= now_s
            assert connections.only()._due_s == since_s + 75  # type: ignore[attr-defined]


async def test_the_surplus_takes_the_place_of_who_has_been_idle_longest() -> None:
    connections = Watched(connections_max=3)
    async with served(Node().app, connections=connections) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in (opened[1], opened[0], opened[2]):
            writer.write(PING)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
        async with client(port) as (reader, writer):
            writer.write(PING)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
            async with asyncio.timeout(PATIENCE_S):
                assert await opened[1][0].read() == b"", "it was idle for longest"
            assert (connections.made_way, connections.refused_total.total()) == (1, 0)
            opened[0][1].write(PING)
            assert (await answer(opened[0][0])).startswith(b"HTTP/1.1 200"), (
                "who was idle for less keeps its connection"
            )
        for _, writer in opened:
            writer.close()


async def test_the_surplus_is_told_to_come_back_when_nobody_is_idle() -> None:
    node, connections = Node(), Watched(Deadlines(linger_s=0.05, sweep_s=0.01), connections_max=2)
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def meanwhile() -> None:
        asked.set()
        await may_go_on.wait()

    node.query.meanwhile = meanwhile
    async with served(node.app, connections=connections) as port, client(port) as busy, client(port) as begun:
        begun[1].write(b"GET /fapi")
        busy[1].write(b"GET " + KLINES + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
            async with client(port) as (reader, writer):
                writer.write(PING)
                refused = RawAnswer(await reader.read())
                await connections.gone.wait()  # waiting took longer than an idle check counts
        assert (refused.status, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
        assert refused.headers["x-klinenode-reason"] == "busy"
        assert refused.body.startswith(b'{"code":-1000,"msg":"')
        may_go_on.set()
        assert (await answer(busy[0])).startswith(b"HTTP/1.1 200"), "who was there first is not disturbed"
        async with client(port) as (reader, writer):
            writer.write(PING)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200"), "it is idle now and makes way"


def test_nobody_makes_way_for_who_was_refused() -> None:
    loop, connections = Loop(), Connections(connections_max=2)
    for _ in range(2):
        assert connections.enter(Paper(), loop)  # type: ignore[arg-type]
    assert not connections.enter(Paper(), loop)  # type: ignore[arg-type]
    gone = next(iter(connections._open))
    connections.leave(gone)
    assert connections.enter(Paper(), loop), "one has left, and the refused one takes no place"  # type: ignore[arg-type]


async def test_who_is_told_nothing_costs_nothing() -> None:
    connections = Watched(Deadlines(linger_s=PATIENCE_S), connections_max=0)
    async with served(Node().app, connections=connections) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SURPLUS_MAX)]
        for reader, _ in opened:
            assert (await answer(reader)).startswith(b"HTTP/1.1 503")
        async with client(port) as (reader, _):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                assert connections.is_over is False
        assert connections.refused_total[503] == SURPLUS_MAX + 1
        for _, writer in opened:
            writer.close()


async def test_the_kernel_keeps_little_and_not_for_ever() -> None:
    connections = Watched()
    async with served(Node().app, connections=connections) as port, client(port) as (reader, writer):
        writer.write(PING)
        await answer(reader)
        held = connections.only().transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert held.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_KERNEL_BYTES
        assert held.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * RECEIVE_KERNEL_BYTES
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000


async def test_the_kernel_ends_a_connection_whose_peer_takes_nothing_of_what_it_holds() -> None:
    """Bytes in the kernel's buffer have left the node; the kernel's own timeout ends such a connection."""
    node, connections = Node(), Watched(Deadlines(kernel_s=0.3, idle_s=PATIENCE_S, send_s=PATIENCE_S))
    node.query.body = kline_body(100)
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    async with served(node.app, connections=connections) as port:
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, (b"GET " + KLINES + b" HTTP/1.1\r\nHost: x\r\n\r\n") * 5)
        async with asyncio.timeout(PATIENCE_S):
            await connections.gone.wait()
    with raw, pytest.raises(ConnectionResetError):
        await _read_all(raw)


async def _read_all(raw: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(raw, 65_536):
        pass


# --- without a network ------------------------------------------------------------------------------------------------


def test_a_peer_that_takes_enough_is_not_stuck() -> None:
    sending = Sending()
    for second in range(1_000):
        waiting_bytes = 60_000 - SEND_BYTES_MIN * (second % 29 == 0)
        assert not sending.is_stuck(waiting_bytes, second, 30)


@pytest.mark.parametrize("taken_bytes", [0, 1, SEND_BYTES_MIN // 40])
def test_a_peer_that_takes_little_or_nothing_is_stuck_after_the_deadline(taken_bytes: int) -> None:
    sending = Sending()
    stuck = [second for second in range(100) if sending.is_stuck(1_000_000 - second * taken_bytes, second, 30)]
    assert stuck[0] == 30


def test_a_buffer_that_drained_between_two_looks_counts_as_taken() -> None:
    sending = Sending()
    for second in range(100):
        if second % 20 == 19:
            sending.drained()
        assert not sending.is_stuck(60_000, second, 30)


def test_an_empty_buffer_is_never_stuck() -> None:
    sending = Sending()
    assert not sending.is_stuck(10, 0, 30)
    assert not sending.is_stuck(0, 29, 30)
    assert not sending.is_stuck(10, 31, 30)
    assert sending.is_stuck(10, 61, 30)


class Paper:
    """A connection that does nothing."""

    def look(self, now_s: float) -> None:
        """Never overdue."""

    def idle_since_s(self) -> float | None:
        return None

    def make_way(self) -> None:
        raise AssertionError("it is never idle")


def test_refusals_are_reported_together_and_at_most_once_a_minute() -> None:
    reports: list[tuple[float, dict[int, int]]] = []
    loop = Loop()
    connections = Connections(report=lambda refused: reports.append((loop.now_s, refused)))
    paper = Paper()
    connections.enter(paper, loop)  # type: ignore[arg-type]
    for second in range(200):
        for _ in range(1_000 if second < 100 else 0):
            connections.refused(400)
        loop.advance(1)
    connections.leave(paper)
    loop.advance(5)
    assert len(reports) <= 1 + 200 / REPORT_EVERY_S
    assert sum(refused[400] for _, refused in reports) == 100_000
    assert not loop.alarms, "nobody is left to look at"


def test_a_flood_of_surplus_does_not_look_at_everybody_each_time() -> None:
    looks = 0

    class Busy(Paper):
        def idle_since_s(self) -> float | None:
            nonlocal looks
            looks += 1
            return None

    loop, connections = Loop(), Connections(connections_max=100)
    for _ in range(100):
        assert connections.enter(Busy(), loop)  # type: ignore[arg-type]
    for _ in range(1_000):
        surplus = Busy()
        assert not connections.enter(surplus, loop)  # type: ignore[arg-type]
        connections.leave(surplus)
    assert looks <= 101
