"""The sandbox's sockets: who gets frames, who gets only an acknowledgement, and how connections end."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from infra.sandbox.close_delay import close_delay_ms
from infra.sandbox.commands import METHODS
from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.server import SandboxServer
from infra.sandbox.sockets import STREAMS_MAX
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


async def hear(socket: ClientConnection) -> dict[str, object]:
    async with asyncio.timeout(PATIENCE_S):
        message = json.loads(await socket.recv())
    assert isinstance(message, dict)
    return message


async def ask(socket: ClientConnection, message: dict[str, object] | str) -> dict[str, object]:
    await socket.send(message if isinstance(message, str) else json.dumps(message))
    return await hear(socket)


async def assert_silent(socket: ClientConnection) -> None:
    """Assert that no frame is waiting: the next message is the answer to a request."""
    assert (await ask(socket, {"method": "GET_PROPERTY", "params": ["combined"], "id": 99}))["id"] == 99


def kline(event: dict[str, object]) -> dict[str, object]:
    data = event.get("data", event)
    assert isinstance(data, dict)
    inner = data["k"]
    assert isinstance(inner, dict)
    return inner


async def closing_frame(socket: ClientConnection, clock: "ManualClock") -> dict[str, object]:
    """Let time pass until a closing frame arrives, and return it."""
    for delta_ms in (0, 250):  # the URL's streams are subscribed when the first request is answered
        clock.advance(delta_ms)
        await assert_silent_or_collect(socket, [])
    clock.advance(MINUTE_MS - clock.now_ms() % MINUTE_MS)
    clock.advance(2_000)
    while not kline(event := await hear(socket))["x"]:
        pass
    return event


@pytest.fixture
async def market(sandbox: SandboxServer) -> AsyncIterator[ClientConnection]:
    async with connect(f"{sandbox.ws_url}/market/ws") as socket:
        yield socket


async def test_a_frame_has_every_field_in_order(market: ClientConnection, clock: "ManualClock") -> None:
    assert await ask(market, {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1}) == {
        "result": None,
        "id": 1,
    }
    clock.advance(30_000)
    event = await hear(market)
    assert list(event) == ["e", "E", "s", "k"]
    assert (event["e"], event["s"]) == ("kline", "BTCUSDT")
    assert list(kline(event)) == ["t", "T", "s", "i", "f", "L", "o", "c", "h", "l", "v", "n", "x", "q", "V", "Q", "B"]
    assert kline(event)["B"] == "0"


async def test_frames_tell_what_rest_tells(
    market: ClientConnection, http: httpx.AsyncClient, clock: "ManualClock"
) -> None:
    names = [
        f"{symbol}@kline_{interval}" for symbol in ("btcusdt", "币安人生usdt") for interval in ("1m", "15m", "1d", "1M")
    ]
    await ask(market, {"method": "SUBSCRIBE", "params": names, "id": 1})
    clock.advance(45_000)
    for _ in names:
        event = await hear(market)
        frame = kline(event)
        query = {"symbol": str(event["s"]), "interval": str(frame["i"]), "limit": "1"}
        row = (await http.get("/fapi/v1/klines", params=query)).json()[0]
        assert [frame[key] for key in "tohlcvTqnVQ"] == row[:11]
        assert frame["x"] is False


async def test_a_closing_frame_is_the_final_rest_row_and_comes_late(
    sandbox: SandboxServer, clock: "ManualClock"
) -> None:
    for symbol in ("BTCUSDT", "XRPUSDT"):
        async with connect(f"{sandbox.ws_url}/market/ws/{symbol.lower()}@kline_1m") as socket:
            item = sandbox.exchange.universe.find(symbol, clock.now_ms())
            assert item is not None
            minute_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
            delay_ms = close_delay_ms(item, minute_ms)
            assert 200 <= delay_ms <= 2_000
            assert (delay_ms >= 1_200) == item.quiet
            event = await closing_frame(socket, clock)
            frame = kline(event)
            row = sandbox.exchange.rows(symbol, "1m", minute_ms, minute_ms + MINUTE_MS)[0]
            assert [frame[key] for key in "tohlcvTqnVQ"] == row[:11]


async def test_minutes_without_trades_close_too_and_only_buckets_that_end(
    sandbox: SandboxServer, clock: "ManualClock"
) -> None:
    names = "/".join(f"bttcusdt@kline_{interval}" for interval in ("1m", "3m", "5m"))
    async with connect(f"{sandbox.ws_url}/market/stream?streams={names}") as socket:
        closed: list[tuple[object, object]] = []
        await assert_silent_or_collect(socket, closed)
        clock.advance(250)
        await assert_silent_or_collect(socket, closed)
        for _ in range(31):
            clock.advance(MINUTE_MS)
            await assert_silent_or_collect(socket, closed)
        async with asyncio.timeout(PATIENCE_S):
            await assert_silent_or_collect(socket, closed)
        start_ms = (clock.now_ms() - 31 * MINUTE_MS) // MINUTE_MS * MINUTE_MS
        for name, size in (("1m", 1), ("3m", 3), ("5m", 5)):
            ends = [opened for interval, opened in closed if interval == name]
            expected = [
                open_ms
                for open_ms in range(
                    start_ms // (size * MINUTE_MS) * size * MINUTE_MS, clock.now_ms(), size * MINUTE_MS
                )
                if start_ms < open_ms + size * MINUTE_MS <= clock.now_ms() - 2_000
            ]
            assert ends[: len(expected) - 1] == expected[: len(expected) - 1]
        rows = sandbox.exchange.rows("BTTCUSDT", "1m", start_ms, clock.now_ms())
        empty = sum(row[8] == 0 for row in rows)
        assert empty > 5


async def assert_silent_or_collect(socket: ClientConnection, closed: list[tuple[object, object]]) -> None:
    """Read up to the answer to a request; append interval and open time of each closing frame to `closed`."""
    await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":5}')
    while "result" not in (event := await hear(socket)):
        frame = kline(event)
        if frame["x"]:
            closed.append((frame["i"], frame["t"]))


async def test_no_frame_of_the_next_minute_overtakes_the_closing_one(
    market: ClientConnection, clock: "ManualClock"
) -> None:
    await ask(market, {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m", "xrpusdt@kline_1m"], "id": 1})
    last: dict[object, dict[str, object]] = {}
    for _ in range(5 * 240):
        clock.advance(250)
        await asyncio.to_thread(int)
    await market.send('{"method":"LIST_SUBSCRIPTIONS","id":5}')
    frames = 0
    while "result" not in (event := await hear(market)):
        frames += 1
        frame, before = kline(event), last.get(event["s"])
        if before is not None and before["t"] != frame["t"]:
            assert before["x"] is True
        elif before is not None:
            assert before["x"] is False
            assert int(str(frame["n"])) >= int(str(before["n"]))
        last[event["s"]] = frame
    assert frames > 1_000


@pytest.mark.parametrize(
    "path", ["/ws", "/stream", "/public/ws", "/private/stream", "/public/stream?streams=btcusdt@kline_1m"]
)
async def test_kline_streams_on_other_routes_are_acknowledged_and_silent(
    sandbox: SandboxServer, clock: "ManualClock", path: str
) -> None:
    async with connect(sandbox.ws_url + path) as socket:
        answer = await ask(socket, {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": "abc"})
        assert answer == {"result": None, "id": "abc"}
        clock.advance(70_000)
        await assert_silent(socket)
        answer = await ask(socket, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert answer == {"result": ["btcusdt@kline_1m"], "id": 3}


@pytest.mark.parametrize(
    "name", ["BTCUSDT@kline_1m", "nopeusdt@kline_1m", "btcusdt@kline_1s", "btcusdt@kline_1D", "x", "omgusdt@kline_1m"]
)
async def test_names_that_do_not_exist_are_acknowledged_and_silent(
    market: ClientConnection, clock: "ManualClock", name: str
) -> None:
    assert await ask(market, {"method": "SUBSCRIBE", "params": [name], "id": 1}) == {"result": None, "id": 1}
    clock.advance(70_000)
    await assert_silent(market)


async def test_combined_streams_are_wrapped_and_the_property_can_be_changed(
    sandbox: SandboxServer, clock: "ManualClock"
) -> None:
    async with connect(f"{sandbox.ws_url}/market/stream?streams=btcusdt@kline_1m") as socket:
        assert await ask(socket, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1}) == {
            "result": True,
            "id": 1,
        }
        clock.advance(250)
        event = await hear(socket)
        assert list(event) == ["stream", "data"]
        assert event["stream"] == "btcusdt@kline_1m"
        await ask(socket, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 2})
        clock.advance(250)
        assert (await hear(socket))["e"] == "kline"
        await ask(socket, {"method": "UNSUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 3})
        clock.advance(5_000)
        await assert_silent(socket)


BAD_MESSAGES = [
    ("{oops", 3, "Invalid JSON: expected value at line 1 column 2"),
    ('{"id":1}', 2, "Invalid request: missing field `method` at line 1 column 8"),
    (
        '{"method":"X","id":1}',
        2,
        f"Invalid request: unknown variant `X`, expected one of `{'`, `'.join(METHODS)}` at line 1 column 13",
    ),
    ('{"method":"SUBSCRIBE","params":[],"id":-1}', 2, "Invalid request: request ID must be an unsigned integer"),
    ('{"method":"GET_PROPERTY","params":["colour"],"id":1}', 0, "Unknown property"),
    ('{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "Invalid request: property name must be a string"),
    ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type: expected Boolean"),
    ('{"method":"SET_PROPERTY","params":["combined",true,1],"id":1}', 2, "Invalid request: too many parameters"),
]


async def test_bad_control_messages_get_the_exchange_s_words(market: ClientConnection) -> None:
    for message, code, msg in BAD_MESSAGES:
        assert (await ask(market, message))["error"] == {"code": code, "msg": msg}, message


async def test_the_1025th_stream_ends_the_connection(market: ClientConnection) -> None:
    names = [f"s{number}@kline_1m" for number in range(STREAMS_MAX)]
    await ask(market, {"method": "SUBSCRIBE", "params": names, "id": 1})
    await ask(market, {"method": "SUBSCRIBE", "params": names[:5], "id": 2})
    assert await ask(market, {"method": "SUBSCRIBE", "params": ["one@kline_1m"], "id": 3}) == {"result": None, "id": 3}
    assert await hear(market) == {"error": {"code": 4, "msg": "Too many subscriptions"}}
    with pytest.raises(ConnectionClosed) as end:
        await hear(market)
    assert end.value.rcvd is not None
    assert (end.value.rcvd.code, end.value.rcvd.reason) == (1008, "Invalid request")


async def test_more_than_ten_messages_a_second_end_the_connection(
    market: ClientConnection, clock: "ManualClock"
) -> None:
    for number in range(10):
        await ask(market, {"method": "LIST_SUBSCRIPTIONS", "id": number})
    clock.advance(1_000)
    for number in range(10):
        await ask(market, {"method": "LIST_SUBSCRIPTIONS", "id": number})
    with pytest.raises(ConnectionClosed) as end:
        await ask(market, {"method": "LIST_SUBSCRIPTIONS", "id": 10})
    assert end.value.rcvd is not None
    assert (end.value.rcvd.code, end.value.rcvd.reason) == (1008, "Too many requests")


async def test_a_connection_lives_a_day(sandbox: SandboxServer, clock: "ManualClock") -> None:
    async with connect(f"{sandbox.ws_url}/market/stream") as socket:
        await assert_silent(socket)
        clock.advance(24 * 3600 * 1000)
        with pytest.raises(ConnectionClosed):
            await hear(socket)


async def test_a_url_that_is_no_socket_s_is_refused(sandbox: SandboxServer) -> None:
    for path in ("/", "/market", "/other/ws"):
        with pytest.raises(InvalidStatus):
            await connect(sandbox.ws_url + path)


async def test_a_new_listing_delivers_and_a_delivered_symbol_falls_silent(
    market: ClientConnection, clock: "ManualClock", sandbox: SandboxServer
) -> None:
    await ask(market, {"method": "SUBSCRIBE", "params": ["freshusdt@kline_1m", "xrpusdt@kline_1m"], "id": 1})
    sandbox.inject(kind="list_symbol", symbol="FRESHUSDT")
    sandbox.inject(kind="delist_symbol", symbol="XRPUSDT", in_s=30)
    clock.advance(250)
    await assert_silent_or_collect(market, [])
    await assert_closes(market, clock, {"FRESHUSDT", "XRPUSDT"})
    await assert_closes(market, clock, {"FRESHUSDT"})


async def assert_closes(socket: ClientConnection, clock: "ManualClock", expected: set[str]) -> None:
    """Let one minute pass and assert which symbols close it."""
    clock.advance(MINUTE_MS)
    await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":5}')
    seen = set()
    while "result" not in (event := await hear(socket)):
        if kline(event)["x"]:
            seen.add(event["s"])
    assert seen == expected
