"""Peers that stall in each phase of a connection, against a real server on loopback.

The server's deadlines are short, and those of its socket clients use a clock that the test moves. The server has to
end a stalled connection, and nothing of it may remain: no connection, client, task or open file.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from app.market.stream_hub import Hub
from app.sockets.connections import Connection, Connections, Deadlines
from app.sockets.stream_protocol import STATE
from app.sockets.streams import LIFE_S, PONG_S_MAX, STALL_S_MAX, StreamLimits
from tests.clocks import START_MS, VirtualClock
from tests.fakes import FakeListed
from tests.http.fakes import LOCAL_TOKEN, Node, kline_body, served
from tests.patience import PATIENCE_S
from tests.sockets.sockets import Watched

SHORT: Final = Deadlines(
    head_s=0.05, body_s=0.05, send_s=0.05, idle_s=0.05, linger_s=0.05, goodbye_s=0.05, sweep_s=0.01
)
KLINES: Final = b"/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
STREAM: Final = "btcusdt@trade"
HANDSHAKE: Final = (
    b"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MASK: Final = b"\0\0\0\0"


class Counted(Connections):
    """Connections that set an event when a connection has entered or left."""

    def __init__(self, connections_max: int = 100) -> None:
        super().__init__(SHORT, connections_max)
        self.come, self.gone = asyncio.Event(), asyncio.Event()

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        self.come.set()
        return super().enter(connection, loop)

    def leave(self, connection: Connection) -> None:
        super().leave(connection)
        self.gone.set()


class Server:
    """A server with the node's HTTP protocol and sockets, and the clock and sweeps that a test controls."""

    def __init__(self) -> None:
        self.node = Node()
        self.node.query.body = kline_body(1_500)
        self.clock = VirtualClock(START_MS)
        self.hub = Hub(self.clock)
        self.streams = Watched(self.hub, self.clock, StreamLimits(100, 256 * 1024), FakeListed(), lambda stream: None)
        self.connections = Counted()
        self.port = 0

    def app(self) -> ASGIApp:
        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
            yield {STATE: self.streams}

        outer = Starlette(lifespan=lifespan)

        async def both(scope: Scope, receive: Receive, send: Send) -> None:
            await (outer if scope["type"] == "lifespan" else self.node.app)(scope, receive, send)

        return both

    async def until_nobody(self) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.connections):
                self.connections.gone.clear()
                await self.connections.gone.wait()
            while self.streams.clients:
                self.streams.gone.clear()
                await self.streams.gone.wait()

    async def until_clients(self, number: int) -> None:
        """Wait until `number` socket clients are connected; each answered ping gives the server a turn to read."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.streams.clients) != number:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                await reader.read()
                writer.close()


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    Watched.gone = asyncio.Event()  # of this event loop
    made = Server()
    async with served(made.app(), lifespan="on", connections=made.connections) as port:
        made.port = port
        yield made


class Peer:
    """A client with a small receive buffer, which reads only when the test says so."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.setblocking(False)
        self._port = port
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> None:
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))

    async def send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self.socket, data)
        except ConnectionError:
            return  # the server has already ended the connection, as it should

    async def read(self, length: int) -> bytes:
        return await self._loop.sock_recv(self.socket, length)

    async def rest(self) -> bytes:
        """Read and return all bytes up to the end of the connection."""
        parts = []
        async with asyncio.timeout(PATIENCE_S):
            try:
                while part := await self.read(65_536):
                    parts.append(part)
            except ConnectionError:
                parts.append(b"")
        return b"".join(parts)


# --- phases: each leaves the peer stalled; what it returns has to be in what the peer finds afterwards ----------------

Phase = Callable[[Server, Peer, random.Random], Awaitable[bytes]]


async def nothing_sent(_server: Server, _peer: Peer, _rng: random.Random) -> bytes:
    return b"HTTP/1.1 408 "


async def within_the_head(_server: Server, peer: Peer, rng: random.Random) -> bytes:
    head = b"GET " + KLINES + b" HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * rng.randrange(3_000) + b"\r\n\r\n"
    await peer.send(head[: rng.randrange(1, len(head))])
    return b"HTTP/1.1 408 "


async def within_the_next_head(server: Server, peer: Peer, rng: random.Random) -> bytes:
    server.node.query.is_in_memory = rng.random() < 0.5
    await peer.send(b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /fapi"[: rng.randrange(1, 9)])
    return b"HTTP/1.1 408 "


OPERATOR: Final = f"Authorization: Bearer {LOCAL_TOKEN}\r\n".encode()


async def within_the_body(_server: Server, peer: Peer, rng: random.Random) -> bytes:
    target = rng.choice([b"/v1/admin/backfill", KLINES, b"/fapi/v1/order", b"/nothing"])
    if rng.random() < 0.5:
        framing, body = b"Content-Length: 100000", b"x" * rng.randrange(90_000)
    else:
        framing, body = b"Transfer-Encoding: chunked", b"5\r\nhello\r\n" * rng.randrange(9) + b"5\r\nhel"
    await peer.send(b"POST " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + OPERATOR + framing + b"\r\n\r\n" + body)
    return b"HTTP/1.1 4"


async def without_reading_the_answer(server: Server, peer: Peer, rng: random.Random) -> bytes:
    server.node.query.is_in_memory = rng.random() < 0.5
    one = b"GET " + KLINES + b"&limit=%d HTTP/1.1\r\nHost: x\r\n\r\n" % rng.randrange(1, 1_500)
    await peer.send(one * rng.choice([20, 200]))
    if rng.random() < 0.5:
        peer.socket.shutdown(socket.SHUT_WR)
    return b"HTTP/1.1 200 OK"


async def after_an_answer(server: Server, peer: Peer, rng: random.Random) -> bytes:
    server.node.query.is_in_memory = rng.random() < 0.5
    method = rng.choice([b"GET", b"HEAD"])
    target = rng.choice([KLINES, b"/fapi/v1/ping", b"/nothing", b"/fapi/v1/klines?symbol=NOPE&interval=1m"])
    more = rng.choice([b"", b"If-None-Match: *\r\n"])
    await peer.send(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
    return b"HTTP/1.1 "


async def after_a_refusal(_server: Server, peer: Peer, rng: random.Random) -> bytes:
    kinds = [b"\0" * 50, b"GET / HTTP/7.0\r\n\r\n", b"X: y\r\n" * 20_000, b"GET /" + b"x" * 70_000, b"\x16\x03\x01\x02"]
    await peer.send(rng.choice(kinds))
    return b"HTTP/1.1 4"


async def within_the_handshake(_server: Server, peer: Peer, rng: random.Random) -> bytes:
    await peer.send(HANDSHAKE[: rng.randrange(1, len(HANDSHAKE))])
    return b"HTTP/1.1 408 "


async def after_a_refused_handshake(_server: Server, peer: Peer, rng: random.Random) -> bytes:
    wrong = rng.choice([(b"/ws/", b"/nowhere/"), (b": 13", b": 7"), (b"GET", b"POST"), (b"1.1", b"1.0")])
    await peer.send(HANDSHAKE.replace(*wrong, 1))
    return b"HTTP/1.1 "


async def _opened(server: Server, peer: Peer) -> None:
    await peer.send(HANDSHAKE)
    await server.until_clients(1)


async def within_a_frame(server: Server, peer: Peer, rng: random.Random) -> bytes:
    """An unfinished message, behind which no pong can be sent."""
    await _opened(server, peer)
    frame = b"\x01\xfe" + struct.pack(">H", 40_000) + _MASK + b" " * rng.randrange(30_000)
    await peer.send(frame[: rng.randrange(1, len(frame))])
    server.clock.time_ms += PONG_S_MAX * 1_000
    server.streams.sweep()
    return b"HTTP/1.1 101 "


async def without_reading_frames(server: Server, peer: Peer, _rng: random.Random) -> bytes:
    await _opened(server, peer)
    (client,) = server.streams.clients
    payload = b'{"e":"trade","s":"BTCUSDT","pad":"%b"}' % (b"x" * 4_000)
    async with asyncio.timeout(PATIENCE_S):
        while client.is_flowing:
            server.hub.deliver(STREAM, payload)
            await asyncio.sleep(0)  # noqa: TID251  lets the transport write
    server.clock.time_ms += (STALL_S_MAX + 1) * 1_000
    server.streams.sweep()
    return b"HTTP/1.1 101 "


async def without_answering_the_goodbye(server: Server, peer: Peer, _rng: random.Random) -> bytes:
    await _opened(server, peer)
    server.clock.time_ms += LIFE_S * 1_000
    server.streams.sweep()
    return b"HTTP/1.1 101 "


async def after_its_own_goodbye(server: Server, peer: Peer, rng: random.Random) -> bytes:
    await _opened(server, peer)
    broken = b"\xff\xff\xff\xff"
    await peer.send(rng.choice([b"\x88\x82" + _MASK + struct.pack(">H", 1_000), broken]))
    return b"HTTP/1.1 101 "


PHASES: Final[tuple[Phase, ...]] = (
    nothing_sent, within_the_head, within_the_next_head, within_the_body, without_reading_the_answer, after_an_answer,
    after_a_refusal, within_the_handshake, after_a_refused_handshake, within_a_frame, without_reading_frames,
    without_answering_the_goodbye, after_its_own_goodbye,
)  # fmt: skip


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def stall(made: Server, phase: Phase, rng: random.Random) -> None:
    """Have one peer stall in `phase`; check that the server ends it and keeps nothing of it."""
    tasks, files = asyncio.all_tasks(), _open_files()
    peer = Peer(made.port)
    try:
        made.connections.come.clear()
        await peer.connect()
        async with asyncio.timeout(PATIENCE_S):
            await made.connections.come.wait()
        expected = await phase(made, peer, rng)
        await made.until_nobody()
        told = await peer.rest()
    finally:
        peer.socket.close()
    assert told.startswith(b"HTTP/1.1 ") or not told, told[:100]
    if phase is not without_reading_the_answer or told:
        assert expected in told, f"{phase.__name__}: {told[:200]!r}"
    async with asyncio.timeout(PATIENCE_S):
        while left := asyncio.all_tasks() - tasks:
            await asyncio.wait(left)
    assert _open_files() == files, "open files are left"
    assert not made.streams.streams, "streams are left"
    assert made.streams.waiting_bytes == 0, "bytes are left"


async def stall_everywhere(cases: int, seed: int) -> Counter[str]:
    """Have `cases` peers stall, one after another; return how many stalled in each phase."""
    counts: Counter[str] = Counter()
    async with server() as made:
        for number in range(cases):
            phase = PHASES[number % len(PHASES)]
            await stall(made, phase, random.Random(f"{seed}:{number}"))
            counts[phase.__name__] += 1
    return counts
