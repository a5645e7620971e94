"""Requests answered in the protocol get the same bytes as on the long way through ASGI, and in order."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import httptools
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.http import protocol
from app.http.fast_path import HEARD_BYTES_MAX, REMEMBERED_BYTES_MAX, REPEATED_BYTES_MAX, FastPath
from app.http.protocol import BoundedProtocol
from app.http.recent import OVERHEAD_BYTES
from app.querying.answer import KlineQuery
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.connections import Connections, Deadlines
from tests.http.fakes import NOW_MS, Node, kline_body, served
from tests.patience import PATIENCE_S

PATH = "/fapi/v1/klines"
DEADLINES = Deadlines()
KLINES = f"{PATH}?symbol=BTCUSDT&interval=1m"
BODY = kline_body()
DATE = re.compile(rb"date: [^\r]*\r\n")
KINDS = ("kept", "in memory", "neither")


@dataclass
class Both:
    """One node behind two servers; the second cannot see the fast path and takes the long way."""

    node: Node
    port: int
    long_port: int
    entered: list[str] = field(default_factory=list)
    """Paths of the requests to the first server that the fast path left to ASGI."""


@asynccontextmanager
async def both(kind: str = "in memory") -> AsyncIterator[Both]:
    node = Node()
    node.query.body = BODY
    node.query.is_in_memory = kind == "in memory"
    entered: list[str] = []
    long_way = node.app
    assert isinstance(long_way, FastPath)

    class Witness(FastPath):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            entered.append(scope["path"])
            await long_way(scope, receive, send)

    async def hidden(scope: Scope, receive: Receive, send: Send) -> None:
        await long_way(scope, receive, send)

    short_way = Witness.__new__(Witness)
    vars(short_way).update(vars(long_way))
    async with served(short_way) as port, served(hidden) as long_port:
        if kind == "kept":
            await said(long_port, request(KLINES, "Connection: close"))
        yield Both(node, port, long_port, entered)


def request(target: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: x", *headers, "", body]).encode()


async def said(port: int, *pieces: bytes) -> bytes:
    """Send `pieces` and return everything the server sends until it closes, without the Date header."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    writer.close()
    return DATE.sub(b"", told)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read the next answer of a connection that stays open: status and body."""
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        return int(head[9:12]), await reader.readexactly(int(length[1]) if length else 0)


QUERIES = (
    "symbol=BTCUSDT&interval=1m", "symbol=btcusdt&interval=1m", "interval=1m&symbol=BTCUSDT",
    "symbol=BTCUSDT&interval=1m&", "symbol=BTCUSDT&interval=1m&x=%41?{|}",
    "symbol=%42TCUSDT&interval=1m", "symbol=BTCUSDT&interval=1m#x", "", "x",
    "symbol=BTCUSDT&interval=1m&allow_partial=true", "symbol=NOPE&interval=1m", "symbol=BTCUSDT&interval=1m&limit=0",
    "symbol=BTCUSDT&interval=1m&only_final=false", f"symbol=BTCUSDT&interval=1m&x={'x' * 5000}",
)  # fmt: skip
HEADERS = (
    (), ("Accept-Encoding: gzip",), ("accept-encoding: br", "ACCEPT-ENCODING: gzip;q=0.5"), ("If-None-Match: *",),
    ("If-None-Match: {tag}",), ("If-None-Match: W/{tag}", 'If-None-Match: "x"'), ("Range: bytes=0-9",),
    ("Accept-Encoding: gzip", "If-None-Match: {tag}"), ("Content-Length: 0",),
    ("Upgrade: h2c", "Connection: upgrade, close"),
    ("Expect: 100-continue",), (f"X-Large: {'x' * 9_000}",), (f"X-Large: {'x' * 17_000}",), ("Content-Length: 5",),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_every_request_gets_what_the_long_way_gives(kind: str) -> None:
    async with both(kind) as here:
        told = await said(here.long_port, request(KLINES, "Connection: close"))
        tag = told.partition(b"etag: ")[2].partition(b"\r\n")[0].decode()
        shapes = [
            *product(QUERIES, HEADERS[:2], ("GET", "HEAD")),
            *product(QUERIES[:1], HEADERS, ("GET", "HEAD", "POST")),
        ]
        for query, stated, method in shapes:
            for version in ("1.1", "1.0") if not stated else ("1.1",):
                headers = [header.replace("{tag}", tag) for header in (*stated, "Connection: close")]
                body = "hello" if "Content-Length: 5" in headers else ""
                sent = request(f"{PATH}?{query}", *headers, method=method, version=version, body=body)
                counted = here.node.pages.hits + here.node.pages.misses
                expected = await said(here.long_port, sent)
                by_long_way = here.node.pages.hits + here.node.pages.misses - counted
                for _ in range(2):
                    counted = here.node.pages.hits + here.node.pages.misses
                    assert await said(here.port, sent) == expected, sent
                    assert here.node.pages.hits + here.node.pages.misses - counted == by_long_way, "counted twice"
                    here.node.clock.ms += here.node.ttl_s * 1000 if kind == "neither" else 0


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_the_usual_request_never_becomes_an_asgi_one(kind: str) -> None:
    async with both(kind) as here:
        for headers in ((), ("Accept-Encoding: gzip",), ("If-None-Match: *",)):
            for method in ("GET", "HEAD"):
                await said(here.port, request(KLINES, *headers, "Connection: close", method=method))
        assert here.entered == []
        await said(here.port, request(KLINES, "Connection: close", version="1.0"))
        assert here.entered == [PATH]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_may_come_in_any_pieces(kind: str) -> None:
    sent = request(KLINES) + request(KLINES, "If-None-Match: *") + request(KLINES + "&limit=5", "Connection: close")
    async with both(kind) as here:
        whole = await said(here.long_port, sent)
        assert whole.count(b"HTTP/1.1 ") == 3
        for at in range(1, len(sent) - 1, 3):
            assert await said(here.port, sent[:at], sent[at:]) == whole


async def test_the_same_bytes_again_are_answered_by_what_is_true_then() -> None:
    async with both() as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        for body in (b"[1]", b"[2]", b"[2]", b"[2]"):
            if here.node.query.body != body:
                here.node.query.body = body
                here.node.pages.clear()
            writer.write(request(KLINES))
            assert await answer(reader) == (200, body)
        writer.write(request(KLINES, "Connection: close"))
        assert await answer(reader) == (200, b"[2]")
        assert await reader.read() == b""
        writer.close()
        assert here.entered == []


async def test_no_answer_overtakes_one_that_takes_longer() -> None:
    async with both("kept") as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(request(KLINES))
        assert await answer(reader) == (200, BODY)
        asked, may_go_on = asyncio.Event(), asyncio.Event()

        async def meanwhile() -> None:
            asked.set()
            await may_go_on.wait()

        here.node.query.meanwhile, here.node.query.body = meanwhile, b"[0]"
        writer.write(request(KLINES + "&limit=7"))
        await asked.wait()
        writer.write(request(KLINES))
        writer.write(request("/fapi/v1/ping"))
        await writer.drain()
        await said(here.port, request("/v1/health", "Connection: close"))  # by now the server has read the pieces
        may_go_on.set()
        assert [await answer(reader) for _ in range(3)] == [(200, b"[0]"), (200, BODY), (200, b"{}")]
        writer.close()


async def test_who_asks_for_the_end_of_the_connection_gets_one_answer() -> None:
    last = request(KLINES, "Connection: close")
    async with both("kept") as here:
        expected = await said(here.long_port, last)
        for behind in (
            request(KLINES),
            request("/fapi/v1/ping"),
            request(KLINES, "Content-Length: 5", body="hello"),
            b"x",
        ):
            assert await said(here.port, last + behind) == expected


async def test_a_page_out_of_the_tail_is_kept_when_it_is_asked_for_again() -> None:
    async with both() as here:
        pages, clock = here.node.pages, here.node.clock
        once = request(KLINES, "Connection: close")
        for expected in ((0, 0, 1), (1, 0, 2), (1, 1, 2)):
            await said(here.port, once)
            assert (pages.entries, pages.hits, pages.misses) == expected
        pages.clear()
        clock.ms += here.node.ttl_s * 1000
        await said(here.port, once)
        assert pages.entries == 0, "after so long it is not the same question"
        await said(here.port, request(KLINES + "&limit=9", "Accept-Encoding: gzip", "Connection: close"))
        assert pages.entries == 1, "packing costs more than keeping"


async def test_the_unforeseen_is_answered_and_logged_on_the_long_way() -> None:
    node = Node()

    def fault(_query: Any, _now_ms: int) -> None:
        raise RuntimeError("a secret of the inside")

    node.query.at_once = fault  # type: ignore[assignment]
    async with served(node.app) as port:
        told = await said(port, request(KLINES, "Connection: close"))
    assert told.startswith(b"HTTP/1.1 500 ")
    assert b'{"code":-1000,' in told


async def test_a_server_that_stops_ends_connections_that_were_answered_at_once() -> None:
    node = Node()
    node.query.is_in_memory = True
    async with served(node.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request(KLINES))
            assert (await answer(reader))[0] == 200
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()


# --- without a network: time, and the caches --------------------------------------------------------------------------


class Alarm:
    def __init__(self, loop: "Loop", at_s: float, call: Callable[[], None]) -> None:
        self.loop, self.at_s, self.call = loop, at_s, call

    def cancel(self) -> None:
        self.loop.alarms.discard(self)


class Loop:
    """An event loop whose time the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.alarms: set[Alarm] = set()
        self.tasks = 0

    def time(self) -> float:
        return self.now_s

    def create_task(self, long_way: Coroutine[Any, Any, None]) -> "Loop":
        long_way.close()
        self.tasks += 1
        return self

    def add_done_callback(self, _done: Callable[[object], None]) -> None:
        """Ignored: its tasks never end."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Alarm:
        alarm = Alarm(self, self.now_s + delay_s, call)
        self.alarms.add(alarm)
        return alarm

    def advance(self, delay_s: float) -> None:
        end_s = self.now_s + delay_s
        while due := [alarm for alarm in self.alarms if alarm.at_s <= end_s]:
            first = min(due, key=lambda alarm: alarm.at_s)
            self.now_s = first.at_s
            self.alarms.discard(first)
            first.call()
        self.now_s = end_s


class Transport:
    """A transport that records what is written and whether it is closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.waiting_bytes = 0
        self.protocol: object = None

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Ignored: the test sends no more."""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def get_protocol(self) -> object:
        return self.protocol

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.written += b"".join(pieces)


def connection(node: Node, deadlines: Deadlines | None = None) -> tuple[BoundedProtocol, Transport, Loop]:
    config = uvicorn.Config(
        node.app,
        access_log=False,
        log_level="critical",
        proxy_headers=False,
        lifespan="off",
    )
    loop, transport = Loop(), Transport()
    made = BoundedProtocol(config, ServerState(), {CONNECTIONS: Connections(deadlines)}, _loop=loop)
    transport.protocol = made
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, transport, loop


def in_memory() -> Node:
    node = Node()
    node.query.is_in_memory = True
    return node


def test_a_connection_ends_so_long_after_its_last_answer() -> None:
    made, transport, loop = connection(in_memory())
    for _ in range(4):  # parsed once, and then cached
        made.data_received(request(KLINES))
        loop.advance(DEADLINES.idle_s - 0.1)
        assert not transport.is_closing()
        assert len(loop.alarms) == 1, "alarms pile up"
    assert transport.written.count(b"200 OK") == 4
    loop.advance(0.1 + DEADLINES.sweep_s)
    assert transport.is_closing()
    made.connection_lost(None)
    loop.advance(DEADLINES.sweep_s)
    assert not loop.alarms


def test_a_request_that_is_begun_behind_one_that_was_answered_has_the_time_of_any() -> None:
    made, transport, loop = connection(in_memory(), Deadlines(idle_s=1))
    made.data_received(request(KLINES))
    made.data_received(b"GET /fapi")
    loop.advance(DEADLINES.head_s - 0.1)
    assert not transport.is_closing()
    loop.advance(0.1 + DEADLINES.sweep_s)
    assert transport.is_closing()
    assert transport.written.endswith(b's."}')
    made, transport, loop = connection(in_memory(), Deadlines(idle_s=1))
    made.data_received(request(KLINES) + b"GET /fapi")
    loop.advance(DEADLINES.head_s - 0.1)
    assert not transport.is_closing()
    loop.advance(0.1 + DEADLINES.sweep_s)
    assert transport.is_closing()


def test_one_who_does_not_read_is_waited_for_by_the_long_way() -> None:
    made, transport, loop = connection(in_memory())
    made.data_received(request(KLINES))
    made.pause_writing()
    made.data_received(request(KLINES))  # cached
    made.data_received(request(KLINES + "&limit=2"))
    assert (transport.written.count(b"200 OK"), loop.tasks) == (1, 1), "one after the other"
    made, transport, loop = connection(in_memory())
    made.pause_writing()
    made.data_received(request(KLINES + "&limit=3"))
    made.resume_writing()
    made.data_received(request(KLINES))
    assert (transport.written, loop.tasks) == (b"", 1), "what waits is not overtaken when he reads on"


def test_nothing_is_done_for_requests_behind_the_end_of_a_connection() -> None:
    for behind in (
        request(KLINES),
        request("/fapi/v1/ping"),
        request("/x", "Content-Length: 5", method="POST", body="hello"),
    ):
        made, transport, loop = connection(in_memory())
        made.data_received(request(KLINES, "Connection: close") + behind)
        assert (transport.written.count(b"HTTP/1.1 "), transport.closed, loop.tasks) == (1, True, 0)


def test_only_what_was_one_request_from_its_first_byte_to_its_last_is_remembered() -> None:
    node = in_memory()
    one, other = request(KLINES), request(KLINES + "&limit=2")
    for at in range(len(one) + 1):
        made, transport, _ = connection(node)
        made.data_received(one[:at])
        made.data_received(one[at:] + other)
        assert transport.written.count(b"200 OK") == 2
    made.data_received(other + one[:9])
    remembered = [*node.app._heard._newer, *node.app._heard._older]  # type: ignore[attr-defined]
    assert remembered == [b"Host: x\r\n\r\n"]


def test_a_request_is_the_same_whether_its_headers_were_parsed_before_or_not() -> None:
    for query, headers, method in product(QUERIES, HEADERS, ("GET", "HEAD", "POST")):
        outcomes = []
        for before in (headers, ("X-Other: x",)):
            node = in_memory()
            made, transport, loop = connection(node)
            made.data_received(request(KLINES + "&limit=3", *before))
            if before == headers and (transport.closed or loop.tasks):
                continue  # not a usual request
            transport.written, answered = b"", node.pages.misses
            made.data_received(request(f"{PATH}?{query}", *headers, method=method))
            outcomes.append((transport.written, transport.closed, loop.tasks, node.pages.misses - answered))
        assert len(set(outcomes)) == 1, (query, headers, method)


def test_a_request_that_memory_cannot_answer_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    node = in_memory()
    made, _, loop = connection(node)
    made.data_received(request(KLINES))
    node.query.is_in_memory = False
    asked: list[KlineQuery] = []
    monkeypatch.setattr(node.query, "at_once", lambda query, _now_ms: asked.append(query))
    made.data_received(request(KLINES + "&limit=2"))
    assert (len(asked), loop.tasks) == (1, 1)


def test_what_is_remembered_of_requests_is_bounded() -> None:
    node = in_memory()
    made, transport, _ = connection(node)
    assert isinstance(node.app, FastPath)
    long_one = request(KLINES, "X: " + "x" * HEARD_BYTES_MAX)
    made.data_received(long_one)
    assert node.app.heard(long_one) is None
    filler = "y" * 300
    number = 0
    while node.app.heard(request(f"{KLINES}&limit={number}", f"X: 0{filler}")) is not None or not number:
        made.data_received(request(KLINES, f"X: {number}{filler}"))
        assert node.app._heard.bytes <= REMEMBERED_BYTES_MAX
        number += 1
    assert node.app._heard.bytes > REMEMBERED_BYTES_MAX // 4, "what is bounded is used"
    assert node.app.heard(request(KLINES + "&limit=2", f"X: {number - 1}{filler}")) is not None
    assert transport.written.count(b"200 OK") == number + 1


def test_requests_that_come_again_byte_for_byte_are_known_by_their_bytes_within_a_bound() -> None:
    node = in_memory()
    made, transport, _ = connection(node)
    assert isinstance(node.app, FastPath)
    made.data_received(request(KLINES))
    first, transport.written = transport.written, b""
    again = node.app.heard(request(KLINES))
    assert again is not None
    assert node.app.heard(request(KLINES)) is again
    made.data_received(request(KLINES))
    assert transport.written == first
    for number in range(3 * REPEATED_BYTES_MAX // OVERHEAD_BYTES):
        assert node.app.heard(request(f"{KLINES}&limit={number}")) is not None
        assert node.app._repeated.bytes <= REPEATED_BYTES_MAX
    assert node.app._repeated.bytes > REPEATED_BYTES_MAX // 4


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60).filter(lambda raw: protocol._QUERY.fullmatch(raw))
    | st.from_regex(protocol._QUERY, fullmatch=True)
)
def test_a_query_that_is_taken_as_it_stands_is_what_the_server_would_find(raw: bytes) -> None:
    assert (httptools.parse_url(b"/fapi/v1/klines?" + raw).query or b"") == raw


def test_the_date_is_the_servers() -> None:
    node = in_memory()
    made, transport, _ = connection(node)
    for date in (b"one", b"two"):
        made.server_state.default_headers = [(b"date", date)]
        made.data_received(request(KLINES))
    assert re.findall(rb"date: (\w+)\r\n", transport.written) == [b"one", b"two"]
    assert b"max-age=8, stale-while-revalidate=2" in transport.written
    assert node.clock.ms == NOW_MS
