"""The fast path without a network: time, and what is remembered of requests."""

import re
from itertools import product

import httptools
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from app.http import protocol
from app.http.fast_path import HEARD_BYTES_MAX, REMEMBERED_BYTES_MAX, REPEATED_BYTES_MAX, FastPath
from app.http.protocol import BoundedProtocol
from app.http.recent import OVERHEAD_BYTES
from app.querying.answer import KlineQuery
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.connections import Connections, Deadlines
from tests.http.fakes import NOW_MS, Node
from tests.http.offline import DEADLINES, HEADERS, KLINES, PATH, QUERIES, Loop, Transport, request


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
    cases = {
        *product(QUERIES, HEADERS[:2], ("GET", "HEAD")),
        *product(QUERIES[:1], HEADERS, ("GET", "HEAD", "POST")),
    }
    for query, headers, method in sorted(cases):
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


@settings(max_examples=300)
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
