"""The node's sockets with the real `websockets` client: paths, commands, limits, lifetime and protocol errors."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.sockets.stream_client import MESSAGES_A_SECOND_MAX, STREAMS_MAX
from app.sockets.stream_protocol import MESSAGE_BYTES_MAX
from app.sockets.streams import LIFE_S, PING_EVERY_S, PONG_S_MAX
from tests.http.fakes import served
from tests.sockets.sockets import app_of, ask, client, exchange, said

ACCEPTED = {"result": None, "id": 1}


@pytest.mark.parametrize("route", ["", "/market", "/public", "/private"])
async def test_events_come_plain_under_ws_and_wrapped_under_stream_on_every_route(route: str) -> None:
    async with (
        exchange() as made,
        client(made, f"{route}/ws/ausdt@trade/busdt@trade") as plain,
        client(made, f"{route}/stream?streams=ausdt@trade/busdt@trade") as wrapped,
    ):
        for stream in ("ausdt@trade", "busdt@trade"):
            event = json.loads(made.send(stream, p="1.10"))
            assert await said(plain) == event
            assert await said(wrapped) == {"stream": stream, "data": event}


@pytest.mark.parametrize("size", [0, 100, 125, 126, 1_000, 65_535, 65_536, 400_000])
async def test_events_of_any_length_arrive_byte_for_byte(size: int) -> None:
    payload = b'"' + b"x" * (size - 2) + b'"'
    async with (
        exchange() as made,
        client(made, "/ws/ausdt@trade") as plain,
        client(made, "/stream?streams=ausdt@trade") as wrapped,
    ):
        made.hub.deliver("ausdt@trade", payload)
        assert await plain.recv(decode=False) == payload
        assert await wrapped.recv(decode=False) == b'{"stream":"ausdt@trade","data":' + payload + b"}"


@pytest.mark.parametrize("path", ["/ws", "/ws/anything", "/stream", "/stream?streams=", "/market/ws/0"])
async def test_streams_are_subscribed_listed_and_left_by_command(path: str) -> None:
    first = [name for name in path.removeprefix("/market").split("/")[2:] if name]
    async with exchange() as made, client(made, path) as one:
        assert await ask(one, "SUBSCRIBE", ["ausdt@trade", "busdt@trade", "ausdt@trade"]) == ACCEPTED
        assert await ask(one, "LIST_SUBSCRIPTIONS", request_id="list") == {
            "result": [*first, "ausdt@trade", "busdt@trade"],
            "id": "list",
        }
        assert await ask(one, "UNSUBSCRIBE", ["ausdt@trade", "never@trade"], "abc") == {"result": None, "id": "abc"}
        made.send("ausdt@trade", n=1)
        made.send("busdt@trade", n=2)
        answer = await said(one)
        assert isinstance(answer, dict)
        assert answer.get("data", answer)["n"] == 2, "nothing of the one that was left"
        assert made.server.streams == 1


async def test_the_wrapper_is_a_property_that_can_be_set() -> None:
    async with exchange() as made, client(made, "/ws/ausdt@trade") as one:
        assert await ask(one, "GET_PROPERTY", ["combined"]) == {"result": False, "id": 1}
        assert await ask(one, "SET_PROPERTY", ["combined", True], 2) == {"result": None, "id": 2}
        made.send("ausdt@trade")
        assert await said(one) == {"stream": "ausdt@trade", "data": {"s": "ausdt@trade"}}
        assert await ask(one, "SET_PROPERTY", ["combined", False]) == ACCEPTED
        made.send("ausdt@trade")
        assert await said(one) == {"s": "ausdt@trade"}


async def test_refused_commands_change_nothing_and_the_connection_goes_on() -> None:
    async with exchange() as made, client(made, "/ws/ausdt@trade") as one:
        for text, code in (("{", 3), ('{"id":1}', 2), ('{"method":"SET_PROPERTY","params":["combined",1]}', 1)):
            await one.send(text)
            answer = await said(one)
            assert isinstance(answer, dict)
            assert answer["error"]["code"] == code
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": ["ausdt@trade"], "id": 1}


async def test_names_that_no_stream_has_are_acknowledged_and_silent() -> None:
    async with exchange() as made, client(made, "/ws") as one:
        assert await ask(one, "SUBSCRIBE", ["AUSDT@trade", "listenkey", "ausdt@kline_7m"]) == ACCEPTED
        assert (made.server.streams, made.hub.streams) == (0, 0)


async def test_one_stream_too_many_ends_the_connection() -> None:
    names = [f"s{number}usdt@trade" for number in range(STREAMS_MAX)]
    async with exchange() as made, client(made, "/ws") as one:
        assert await ask(one, "SUBSCRIBE", names) == ACCEPTED
        assert await ask(one, "SUBSCRIBE", names[:1]) == ACCEPTED
        assert await ask(one, "SUBSCRIBE", ["one@trade"]) == {"error": {"code": 4, "msg": "Too many subscriptions"}}
        with pytest.raises(ConnectionClosed) as closed:
            await said(one)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Invalid request")
        await made.until_clients(0)
        assert made.server.streams == 0


async def test_a_thousand_streams_fit_a_url() -> None:
    names = "/".join(f"s{number}usdt@kline_15m" for number in range(STREAMS_MAX))
    async with exchange() as made, client(made, f"/stream?streams={names}"):
        assert made.server.streams == STREAMS_MAX


async def test_streams_beyond_what_the_node_may_have_are_refused_by_name() -> None:
    async with exchange(streams_max=2) as made, client(made, "/ws/ausdt@trade") as one:
        answer = await ask(one, "SUBSCRIBE", ["busdt@trade", "cusdt@trade"], 7)
        assert isinstance(answer, dict)
        assert (answer["id"], answer["error"]["code"]) == (7, 4)
        assert "unsubscribe from others" in answer["error"]["msg"]
        assert await ask(one, "LIST_SUBSCRIPTIONS") == {"result": ["ausdt@trade"], "id": 1}
        assert await ask(one, "SUBSCRIBE", ["busdt@trade"]) == ACCEPTED


async def test_ten_messages_a_second_and_no_more() -> None:
    async with exchange() as made, client(made, "/ws") as one:
        for _ in range(3):
            for number in range(MESSAGES_A_SECOND_MAX - 1):
                await ask(one, "LIST_SUBSCRIPTIONS", request_id=number)
            await (await one.ping())
            made.clock.time_ms += 1_000
        for number in range(MESSAGES_A_SECOND_MAX):
            await ask(one, "LIST_SUBSCRIPTIONS", request_id=number)
        with pytest.raises(ConnectionClosed) as closed:
            await ask(one, "LIST_SUBSCRIPTIONS")
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Too many requests")


async def test_clients_are_pinged_and_live_a_day_if_they_answer() -> None:
    async with exchange() as made, client(made, "/ws/ausdt@trade") as one:
        (held,) = made.server.clients
        for _ in range(LIFE_S // PING_EVERY_S - 1):
            made.clock.time_ms += PING_EVERY_S * 1_000
            made.server.sweep()
            await ask(one, "GET_PROPERTY", ["combined"])  # answered after the ping
            await ask(one, "GET_PROPERTY", ["combined"])
            assert held.ponged_ms == made.clock.time_ms
        made.send("ausdt@trade")
        await said(one)
        made.clock.time_ms += PING_EVERY_S * 1_000
        made.server.sweep()
        with pytest.raises(ConnectionClosed) as closed:
            await said(one)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, "24 hours" in closed.value.rcvd.reason) == (1001, True)


async def test_a_client_that_never_pongs_is_dropped() -> None:
    async with exchange() as made, client(made, "/ws") as one:
        await ask(one, "LIST_SUBSCRIPTIONS")
        made.clock.time_ms += PONG_S_MAX * 1_000 - 1
        made.server.sweep()
        assert not next(iter(made.server.clients)).is_over
        made.clock.time_ms += 1
        made.server.sweep()
        with pytest.raises(ConnectionClosed) as closed:
            await said(one)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "No pong came")


async def test_other_paths_and_clients_too_many_are_told_so() -> None:
    async with exchange(clients_max=1) as made:
        with pytest.raises(InvalidStatus) as refused:
            await connect(made.url + "/fapi/v1/klines", proxy=None)
        assert refused.value.response.status_code == 404
        async with client(made, "/ws"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(made.url + "/ws", proxy=None)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "5"
            assert refused.value.response.headers["X-Klinenode-Reason"] == "busy"
        await made.until_clients(0)
        async with client(made, "/ws"):
            pass


async def test_messages_in_fragments_are_one_message() -> None:
    async with exchange() as made, client(made, "/ws") as one:
        await one.send(['{"method":"LIST_SUB', 'SCRIPTIONS","i', 'd":3}'])
        assert await said(one) == {"result": [], "id": 3}
        await one.send(b'{"method":"LIST_SUBSCRIPTIONS","id":4}')
        assert await said(one) == {"result": [], "id": 4}


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),  # not UTF-8
        (b"\x81\x02{}", 1002),  # not masked
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # a continuation without a beginning
        (b"\xf1\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x81\xff" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x81\xff" + (2**62).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x89\xfe\x00\x80" + bytes(4) + bytes(128), 1002),  # a ping that is too long
    ],
)
async def test_what_is_no_websocket_ends_the_connection_and_no_other(frame: bytes, code: int) -> None:
    async with exchange() as made, client(made, "/ws/ausdt@trade") as good, client(made, "/ws/ausdt@trade") as bad:
        bad.transport.write(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await said(bad)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        await made.until_clients(1)
        made.send("ausdt@trade")
        assert await said(good) == {"s": "ausdt@trade"}


async def test_a_connection_that_breaks_leaves_nothing_behind() -> None:
    async with exchange() as made:
        async with client(made, "/ws/ausdt@trade") as one:
            one.transport.abort()
        await made.until_clients(0)
        assert made.server.streams == 0
        made.send("ausdt@trade")


async def test_the_servers_end_is_announced() -> None:
    async with exchange() as made, served(app_of(made.server), lifespan="on") as port:
        one = await connect(f"ws://127.0.0.1:{port}/ws", proxy=None)
        closing = asyncio.ensure_future(one.wait_closed())  # noqa: TID251
    await closing
    assert (one.close_code, one.close_reason) == (1012, "The node restarts; connect again")
