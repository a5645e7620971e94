"""Clients that do not keep up: their queues are bounded and thinned out, or they are cut, without effect on others."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.market.stream_hub import Hub
from app.sockets.stream_batch import Batches
from app.sockets.stream_client import Client
from app.sockets.stream_commands import Address
from app.sockets.streams import STALL_S_MAX, StreamLimits, StreamServer
from tests.clocks import START_MS, VirtualClock
from tests.fakes import FakeListed
from tests.patience import PATIENCE_S
from tests.sockets.sockets import Exchange, ask, exchange, said

QUEUE_BYTES = 256 * 1024
PAD = "x" * 1_000


async def stalled(made: Exchange, path: str) -> ClientConnection:
    """A client with a small receive buffer that has stopped reading."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", made.port))
    connection = await connect(made.url + path, sock=raw, proxy=None, ping_interval=None, max_queue=1)
    await ask(connection, "LIST_SUBSCRIPTIONS")
    connection.transport.pause_reading()
    return connection


def held(made: Exchange) -> Client:
    """The newest client, as the server's object."""
    return list(made.server.clients)[-1]


async def stuff(made: Exchange, stream: str) -> int:
    """Send events until the newest client's connection is full; return how many it took."""
    sent = 0
    while held(made).is_flowing:
        made.send(stream, n=sent, pad=PAD)
        sent += 1
        await asyncio.sleep(0)  # noqa: TID251  lets the transport write
        assert sent < 50_000
    return sent


async def rest(connection: ClientConnection) -> list[dict[str, object]]:
    """All events that still arrive, up to an event of `last@trade`."""
    connection.transport.resume_reading()
    came: list[dict[str, object]] = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event = json.loads(await connection.recv())
            if event["s"] == "last@trade":
                return came
            came.append(event)


async def until_closed(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                yield await connection.recv()


async def test_a_slow_client_gets_the_newest_states_and_every_closing_kline() -> None:
    async with exchange(queue_bytes_max=QUEUE_BYTES) as made:
        slow = await stalled(made, "/ws/ausdt@kline_1m/busdt@ticker/last@trade")
        sent = await stuff(made, "busdt@ticker")
        for minute in range(5):
            for n in range(1_000):
                made.send("ausdt@kline_1m", k={"t": minute, "n": n, "x": False})
                made.send("busdt@ticker", n=sent + minute * 1_000 + n)
            made.send("ausdt@kline_1m", k={"t": minute, "n": 1_000, "x": True})
        made.send("ausdt@kline_1m", k={"t": 5, "n": 0, "x": False})
        assert made.server.conflated == 5 * 1_000 + 4_999
        assert held(made).outbox.bytes < 2_000
        made.send("last@trade")
        came = await rest(slow)
        tickers = [event["n"] for event in came if event["s"] == "busdt@ticker"]
        klines = [event["k"] for event in came if event["s"] == "ausdt@kline_1m"]
        assert tickers == [*range(sent), sent + 4_999]
        assert klines == [*({"t": t, "n": 1_000, "x": True} for t in range(5)), {"t": 5, "n": 0, "x": False}]
        assert made.server.cut_total == 0
        assert made.server.frames_out == sent + 5 + 1 + 1 + 1, "what was left out was not sent"
        await slow.close()


@pytest.mark.parametrize("stream", ["ausdt@aggTrade", "ausdt@trade", "ausdt@depth@100ms", "!ticker@arr"])
async def test_a_slow_client_of_streams_that_must_be_whole_is_cut_and_told_why(stream: str) -> None:
    async with exchange(queue_bytes_max=QUEUE_BYTES) as made:
        good = await connect(f"{made.url}/ws/{stream}", proxy=None, max_queue=None)
        await ask(good, "LIST_SUBSCRIPTIONS")
        slow = await stalled(made, f"/ws/{stream}")
        sent = await stuff(made, stream)
        while made.server.cut_total == 0:
            assert held(made).outbox.bytes <= QUEUE_BYTES
            made.send(stream, n=sent, pad=PAD)
            sent += 1
            await asyncio.sleep(0)  # noqa: TID251  lets the transports write
        assert len(held(made).outbox) == 0, "what waited is gone at once"
        slow.transport.resume_reading()
        came = [json.loads(message)["n"] async for message in until_closed(slow)]
        assert came == list(range(len(came))), "whole up to the end"
        assert (slow.close_code, (slow.close_reason or "")[:8]) == (1008, "Too slow")
        for number in range(sent):
            event = await said(good)
            assert isinstance(event, dict)
            assert event["n"] == number, "the other one misses nothing"
        await good.close()


async def test_a_client_that_reads_nothing_for_long_is_cut_even_if_little_waits_for_it() -> None:
    async with exchange() as made:
        slow = await stalled(made, "/ws/ausdt@ticker")
        await stuff(made, "ausdt@ticker")
        made.clock.time_ms += STALL_S_MAX * 1_000 - 1
        made.server.sweep()
        assert made.server.cut_total == 0
        made.clock.time_ms += 1
        made.server.sweep()
        assert made.server.cut_total == 1
        assert made.server.streams == 0
        slow.transport.abort()
        await made.until_clients(0)


async def test_a_client_that_asks_and_never_reads_the_answers_is_cut() -> None:
    names = [f"s{number}usdt@trade" for number in range(1_000)]
    async with exchange(queue_bytes_max=QUEUE_BYTES) as made:
        slow = await stalled(made, "/ws")
        asking = held(made)
        asking.hear(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
        for number in range(10_000):
            asking.hear(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
            await asyncio.sleep(0)  # noqa: TID251  lets the transport write
            made.server.end_doomed()
            if asking.is_over:
                break
        assert (made.server.cut_total, made.server.streams) == (1, 0)
        slow.transport.abort()
        await made.until_clients(0)


async def test_many_clients_share_one_subscription_and_those_who_stall_harm_nobody() -> None:
    rng, rounds = random.Random(7), 60
    names = [f"s{number}usdt@{kind}" for number in range(20) for kind in ("trade", "ticker", "kline_1m")]
    async with exchange(queue_bytes_max=QUEUE_BYTES) as made:
        source = Source()
        made.hub.take_from(source)
        wished = [rng.sample(names, 10) for _ in range(40)]
        clients = [await connect(f"{made.url}/ws/{'/'.join(wish)}", proxy=None, max_queue=None) for wish in wished]
        whole = await stalled(made, f"/ws/{'/'.join(names)}")  # its streams include trades, which must not be lost
        states = await stalled(made, f"/ws/{'/'.join(name for name in names if 'trade' not in name)}")
        assert source.subscribed.keys() == set(names), "each once: a second time would have failed"
        for n in range(rounds):
            for name in names:
                made.send(name, n=n, pad=PAD, k={"x": n % 20 == 19})
            await asyncio.sleep(0)  # noqa: TID251  lets the transports write
        for connection, wish in zip(clients, wished, strict=True):
            came: dict[str, list[int]] = {name: [] for name in wish}
            for _ in range(rounds * len(wish)):
                event = await said(connection)
                assert isinstance(event, dict)
                came[event["s"]].append(event["n"])
            assert all(numbers == list(range(rounds)) for numbers in came.values()), "whole, in order, nothing twice"
        assert made.server.cut_total == 1, "the one that would have had to lose trades"
        assert made.server.conflated > 0
        came_late: dict[str, list[int]] = {}
        states.transport.resume_reading()
        while min((numbers[-1] for numbers in came_late.values()), default=0) < rounds - 1 or len(came_late) < 40:
            event = await said(states)
            assert isinstance(event, dict)
            came_late.setdefault(event["s"], []).append(event["n"])
        for name, numbers in came_late.items():
            assert numbers == sorted(set(numbers))
            assert "kline" not in name or {19, 39, 59} <= set(numbers), "every kline's close came"
        for connection in (*clients, states):
            await connection.close()
        whole.transport.abort()
        await made.until_clients(0)


class PaperWire:
    """A fake connection that accepts `room` writes and then pauses the client."""

    def __init__(self) -> None:
        self.room = 4
        self.got: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.client: Client | None = None

    def write(self, data: bytes) -> None:
        assert self.closed is None, "nothing is written behind the end"
        self.got.extend(frames(data))
        self.room -= 1
        if self.room <= 0 and self.client is not None and self.client.is_flowing:
            self.client.pause()

    def read(self, room: int) -> None:
        """Act as a client that reads: make room for `room` more writes."""
        self.room = room
        if self.client is not None and not self.client.is_flowing and not self.client.is_over:
            self.client.resume()

    def ping(self, payload: bytes) -> None:
        raise AssertionError("no time passes here")

    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def waiting_bytes(self) -> int:
        return 0

    def events(self) -> list[dict[str, object]]:
        return [json.loads(frame) for frame in self.got]


def frames(data: bytes) -> Iterator[bytes]:
    """The messages in a sequence of complete short WebSocket frames."""
    at = 0
    while at < len(data):
        assert data[at] == 0x81
        length, body = data[at + 1], at + 2
        if length == 126:
            length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        at = body + length
        yield data[body:at]
    assert at == len(data), "a frame is never cut"


class ManualBatches(Batches):
    """Batches that are written when the test says."""

    def _schedule(self) -> None:
        """Ignored: no event loop runs that could write them."""


class Source:
    def __init__(self) -> None:
        self.subscribed: dict[str, int] = {}

    def add(self, streams: Iterable[str]) -> None:
        for stream in streams:
            assert not self.subscribed.get(stream), "subscribed twice"
            self.subscribed[stream] = 1

    def remove(self, streams: Iterable[str]) -> None:
        for stream in streams:
            del self.subscribed[stream]

    def heard_ms(self, stream: str) -> int | None:
        return None


NAMES = ("ausdt@trade", "ausdt@ticker", "ausdt@kline_1m", "nonsense")


class Servers(RuleBasedStateMachine):
    """Clients that connect, subscribe, stop reading, continue and leave while events arrive, in random order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.source = VirtualClock(START_MS), Source()
        self.hub = Hub(self.clock, linger_s=0)
        self.hub.take_from(self.source)
        self.batches = ManualBatches()
        self.server = StreamServer(
            self.hub, self.clock, StreamLimits(4, 64 * 1024), FakeListed(), lambda stream: None, self.batches
        )
        self.wires: list[PaperWire] = []
        self.due: dict[PaperWire, list[tuple[str, int, bool]]] = {}
        self.number = 0

    @precondition(lambda self: not self.server.is_full)
    @rule(is_combined=st.booleans(), names=st.lists(st.sampled_from(NAMES), max_size=3))
    def connect(self, is_combined: bool, names: list[str]) -> None:
        wire = PaperWire()
        wire.client = self.server.connect(wire)
        wire.client.begin(Address(is_combined, tuple(names)))
        self.wires.append(wire)
        self.due[wire] = []

    @precondition(lambda self: self.wires)
    @rule(at=st.integers(0, 9), method=st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE"]), name=st.sampled_from(NAMES))
    def command(self, at: int, method: str, name: str) -> None:
        client = self.wires[at % len(self.wires)].client
        assert client is not None
        client.hear(json.dumps({"method": method, "params": [name], "id": 1}))
        assert (name in client.streams) is (method == "SUBSCRIBE")

    @precondition(lambda self: self.wires)
    @rule(at=st.integers(0, 9), value=st.booleans())
    def wrap(self, at: int, value: bool) -> None:
        client = self.wires[at % len(self.wires)].client
        assert client is not None
        client.hear(json.dumps({"method": "SET_PROPERTY", "params": ["combined", value], "id": 1}))

    @rule(name=st.sampled_from(NAMES[:3]), is_closing=st.booleans(), times=st.integers(1, 5))
    def event(self, name: str, is_closing: bool, times: int) -> None:
        for _ in range(times):
            self.number += 1
            must = name == "ausdt@trade" or (is_closing and "kline" in name)
            for wire in self.wires:
                if wire.client is not None and name in wire.client.streams:
                    self.due[wire].append((name, self.number, must))
            self.hub.deliver(
                name, b'{"s":"%b","n":%d,"x":%b}' % (name.encode(), self.number, b"true" if is_closing else b"false")
            )

    @precondition(lambda self: self.wires)
    @rule(at=st.integers(0, 9), room=st.integers(1, 6))
    def read(self, at: int, room: int) -> None:
        self.wires[at % len(self.wires)].read(room)

    @precondition(lambda self: self.wires)
    @rule(at=st.integers(0, 9))
    def go(self, at: int) -> None:
        wire = self.wires.pop(at % len(self.wires))
        self.batches.flush()
        wire.read(1_000_000)
        self.check(wire)
        assert wire.client is not None
        self.server.disconnect(wire.client)

    @rule()
    def flush(self) -> None:
        self.batches.flush()

    def check(self, wire: PaperWire) -> None:
        """Assert that a client that read everything got all that must arrive and the newest of the rest, in order."""
        came = [event.get("data", event) for event in wire.events() if "stream" in event or "n" in event]
        for name in NAMES[:3]:
            got = [event["n"] for event in came if isinstance(event, dict) and event["s"] == name]
            due = [(number, must) for each, number, must in self.due[wire] if each == name]
            numbers = [number for number, _ in due]
            assert got == [number for number in numbers if number in set(got)], "in order, nothing twice or unasked"
            assert {number for number, must in due if must} <= set(got), "what must not be lost came"
            if due:
                assert got[-1] == numbers[-1], "the newest state came"

    @invariant()
    def each_stream_is_subscribed_once_for_those_who_want_it(self) -> None:
        self.hub.release()
        wanted = {name for wire in self.wires if wire.client for name in wire.client.streams if name != "nonsense"}
        assert self.source.subscribed.keys() == wanted
        assert self.server.streams == len(wanted)

    @invariant()
    def nobody_is_cut_below_the_bound(self) -> None:
        assert all(wire.closed is None for wire in self.wires)


Servers.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestServers = Servers.TestCase
