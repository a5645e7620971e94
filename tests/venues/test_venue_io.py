"""An exchange on loopback: frames, answers and every way to lose it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from app.domain.venue import Request
from app.ports.venue_io import VenueLost
from app.runtime import Runtime
from infra.process.clock import SystemClock
from infra.venues.venue_io import NetVenueIo
from tests.net.loopback import listening, to
from tests.patience import PATIENCE_S


@asynccontextmanager
async def io_to(rest: int, sockets: int) -> AsyncIterator[NetVenueIo]:
    runtime = Runtime(SystemClock(), lambda _: None)
    io = NetVenueIo(to(f"http://127.0.0.1:{rest}"), to(f"ws://127.0.0.1:{sockets}"), runtime)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield io
    finally:
        await io.aclose()


async def test_frames_come_in_order_from_the_route_and_the_end_is_a_loss() -> None:
    asked: list[str] = []

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request.path)
        text = await connection.recv(decode=True)
        for number in range(3):
            await connection.send(f"{text} {number}")

    async with serve(talk, "127.0.0.1", 0) as server, io_to(1, next(iter(server.sockets)).getsockname()[1]) as io:
        socket = await io.connect("/ws/v5/public?a=b")
        await socket.send("hello")
        frames: list[bytes] = []
        while len(frames) < 3:
            frames += await socket.receive()
        with pytest.raises(VenueLost, match="ConnectionClosedOK"):
            await socket.receive()
        with pytest.raises(VenueLost):
            await socket.send("too late")
        await socket.close()
        await socket.close()
    assert frames == [b"hello 0", b"hello 1", b"hello 2"]
    assert asked == ["/ws/v5/public?a=b"]


async def test_closing_does_not_wait_for_a_peer_that_is_silent() -> None:
    async def silent(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    async with serve(silent, "127.0.0.1", 0) as server, io_to(1, next(iter(server.sockets)).getsockname()[1]) as io:
        socket = await io.connect("/")
        await socket.close()
        with pytest.raises(VenueLost):
            await socket.receive()


async def test_a_host_that_is_not_there_is_a_loss_with_its_address() -> None:
    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with listening(never) as port, io_to(port, port) as io:
        with pytest.raises(VenueLost, match=f"no connection to ws://127.0.0.1:{port}/ws/api/v2"):
            await io.connect("/ws/api/v2")
        with pytest.raises(VenueLost, match="/api/v5/public/instruments"):
            await io.get(Request("/api/v5/public/instruments"))


async def test_an_answer_of_any_status_is_an_answer() -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow")
        await writer.drain()
        writer.close()

    async with listening(refuse) as port, io_to(port, 1) as io:
        answer = await io.get(Request("/fapi/v1/depth", (("symbol", "BTCUSDT"), ("limit", "1000")), 20))
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "7", b"slow")
    assert heads[0].startswith(b"GET /fapi/v1/depth?symbol=BTCUSDT&limit=1000 HTTP/1.1\r\n")
