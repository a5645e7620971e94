"""Every fault of sockets has its stated effect, on the streams it names and as many times as stated."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.sandbox.inject import post, status

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


@pytest.fixture
async def socket(sandbox: SandboxServer) -> AsyncIterator[ClientConnection]:
    async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m") as connection:
        await drain(connection)
        yield connection


async def drain(connection: ClientConnection) -> list[str]:
    """The texts of all frames sent so far."""
    await connection.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    texts: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while not (text := str(await connection.recv())).startswith('{"result"'):
            texts.append(text)
    return texts


async def frames(connection: ClientConnection, clock: "ManualClock", *, minutes: int = 0) -> list[str]:
    """The bitcoin frames after one tick, or through `minutes` more minutes, each until two seconds after its end."""
    clock.advance(250)
    texts = await drain(connection)
    for _ in range(minutes):
        clock.advance(MINUTE_MS - clock.now_ms() % MINUTE_MS)
        texts += await drain(connection)
        clock.advance(2_000)
        texts += await drain(connection)
        clock.advance(250)
        texts += await drain(connection)
    return [text for text in texts if "btcusdt" in text]


async def test_a_cut_socket_ends_without_goodbye(
    http: httpx.AsyncClient, socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="cut", stream="nothing*")
    await drain(socket)
    await post(http, kind="cut", stream="eth*")
    with pytest.raises(ConnectionClosed) as end:
        await socket.recv()
    assert end.value.rcvd is None
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        assert await drain(other) == []


async def test_a_cut_that_lasts_cuts_new_sockets_too(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    await post(http, kind="cut", duration_s=10)
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        await drain(other)
        clock.advance(250)
        with pytest.raises(ConnectionClosed):
            await other.recv()
    clock.advance(10_000)
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        clock.advance(250)
        assert await drain(other) == []


async def test_silence_spares_the_other_streams_and_the_answers(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="silence", symbol="BTCUSDT")
    clock.advance(MINUTE_MS)
    assert {json.loads(text)["stream"] for text in await drain(socket)} == {"ethusdt@kline_1m"}
    await http.delete("/sandbox/faults")
    assert len(await frames(socket, clock)) == 1


async def test_frames_are_doubled_swapped_and_torn(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="duplicate", symbol="BTCUSDT", count=1)
    once, twice = await frames(socket, clock)
    assert once == twice
    await post(http, kind="reorder", symbol="BTCUSDT", count=1)
    assert await frames(socket, clock) == []
    later, earlier = (json.loads(text)["data"]["E"] for text in await frames(socket, clock))
    assert later > earlier
    await post(http, kind="malformed_frame", symbol="BTCUSDT", count=1)
    (torn,) = await frames(socket, clock)
    with pytest.raises(ValueError):
        json.loads(torn)
    assert len(await frames(socket, clock)) == 1


async def test_closing_frames_are_dropped(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    assert sum('"x":true' in text for text in await frames(socket, clock, minutes=1)) == 1
    await post(http, kind="drop_close", symbol="BTCUSDT", count=1)
    texts = await frames(socket, clock, minutes=1)
    assert texts
    assert not any('"x":true' in text for text in texts)
    assert sum('"x":true' in text for text in await frames(socket, clock, minutes=1)) == 1


async def test_a_late_closing_frame_is_overtaken(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection
) -> None:
    await post(http, kind="late_close", symbol="BTCUSDT", delay_s=20, count=1)
    texts = await frames(socket, clock, minutes=1)
    opens = {json.loads(text)["data"]["k"]["t"] for text in texts}
    assert len(opens) == 2
    assert not any('"x":true' in text for text in texts)
    clock.advance(20_000)
    closed = [json.loads(text)["data"]["k"] for text in await drain(socket) if '"x":true' in text]
    assert [kline["t"] for kline in closed if kline["s"] == "BTCUSDT"] == [min(opens)]


async def test_a_closing_frame_is_contradicted(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    for number, which in enumerate(("first", "second")):
        await post(http, kind="contradict", symbol="BTCUSDT", false_final=which, count=1)
        texts = await frames(socket, clock, minutes=1)
        closed = [json.loads(text)["data"]["k"] for text in texts if '"x":true' in text]
        (row,) = sandbox.exchange.rows("BTCUSDT", "1m", closed[0]["t"], closed[0]["t"] + MINUTE_MS)
        told = [[kline[name] for name in "tohlcvTqnVQ"] == row[:11] for kline in closed]
        assert told == ([False, True], [True, False])[number]
        assert float(closed[0]["l"]) <= float(closed[0]["c"]) <= float(closed[0]["h"])


async def test_a_server_says_that_it_will_shut_down_and_does(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="server_shutdown", delay_s=20)
    announced = {"event": {"e": "serverShutdown", "E": clock.now_ms()}}
    assert [json.loads(text) for text in await drain(socket)] == [announced]
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        clock.advance(19_999)
        await drain(socket)
        assert await drain(other) == [], "it was not open then"
        clock.advance(251)
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        with pytest.raises(ConnectionClosed) as end:
            await socket.send("")
        assert end.value.rcvd is not None
        assert (end.value.rcvd.code, end.value.rcvd.reason) == (1012, "service restart")
        assert await drain(other) == []


async def test_a_half_open_socket_says_nothing_more_and_is_dropped_after_ten_minutes(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as dead:
        await drain(dead)
        await post(http, kind="half_open")
        await dead.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        pong = await dead.ping()
        assert isinstance(pong, asyncio.Future)
        async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other:
            await drain(other)
            for _ in range(3):
                clock.advance(MINUTE_MS)
                assert await drain(other)
            assert not pong.done(), "not even a pong"
            clock.advance(10 * MINUTE_MS)
            with pytest.raises(ConnectionClosed) as end:
                await dead.recv()
            assert end.value.rcvd is None


async def test_the_frames_of_a_slow_socket_come_late_and_later(
    http: httpx.AsyncClient, clock: "ManualClock", socket: ClientConnection, sandbox: SandboxServer
) -> None:
    await post(http, kind="slow_socket", delay_s=10, stream="eth*")
    lags_ms: list[int] = []

    async def hear() -> None:
        while True:
            event = json.loads(await socket.recv())["data"]
            lags_ms.append(clock.now_ms() - event["E"])

    async with (
        asyncio.TaskGroup() as tasks,
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other,
    ):
        hearing = tasks.create_task(hear())
        heard = 0
        for _ in range(200):
            clock.advance(250)
            heard += len(await drain(other))
        hearing.cancel()
    assert heard > 30, "the other socket is as quick as ever"
    assert lags_ms[0] < 1_000
    assert 9_500 <= lags_ms[-1] <= 11_000
    assert all(later >= earlier - 500 for earlier, later in pairwise(lags_ms)), lags_ms


async def test_handshakes_hang(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    await post(http, kind="handshake_hang", count=1)
    async with asyncio.TaskGroup() as tasks:
        hanging = tasks.create_task(connect(f"{sandbox.ws_url}/market/ws", open_timeout=None).__aenter__())
        async with asyncio.timeout(PATIENCE_S):
            while not [entry for entry in sandbox.journal.entries if entry.kind == "connect"]:
                await status(http, "/fapi/v1/ping")
        async with connect(f"{sandbox.ws_url}/market/ws") as other:
            assert await drain(other) == []
        assert not hanging.done()
        hanging.cancel()


async def test_a_socket_on_the_wrong_route_acknowledges_and_is_silent(
    http: httpx.AsyncClient, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    await post(http, kind="wrong_route", count=1)
    async with (
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as deaf,
        connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as other,
    ):
        await drain(other)  # an answer shows that its streams are subscribed to
        for _ in range(2):
            await drain(deaf)
            clock.advance(MINUTE_MS)
        assert await drain(deaf) == []
        assert await drain(other)


async def test_handshakes_are_refused(http: httpx.AsyncClient, sandbox: SandboxServer) -> None:
    await post(http, kind="refuse", count=1)
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"{sandbox.ws_url}/market/ws")
    assert refusal.value.response.status_code == 403
    await post(http, kind="refuse", status=0, count=1)
    with pytest.raises((InvalidHandshake, ConnectionError, EOFError)):
        await connect(f"{sandbox.ws_url}/market/ws")
    async with connect(f"{sandbox.ws_url}/market/ws") as other:
        assert await drain(other) == []
