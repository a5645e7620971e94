"""Postgres' messages, cut into requests and replies, and freed of the time-outs that a client sets."""

import struct

import pytest

from tests.programs.sim.wire import CANCEL, FLUSH, QUERY, STARTUP, SYNC, TERMINATE, Replies, Request, Requests


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(*words: str) -> bytes:
    body = struct.pack("!i", 196_608) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def test_a_request_ends_where_the_client_waits_for_an_answer() -> None:
    parse, describe = message(b"P", b"one\0SELECT 1\0\0\0"), message(b"D", b"Sone\0")
    bind, execute = message(b"B", b"\0one\0"), message(b"E", b"\0\0\0\0\0")
    flush, sync, end = message(FLUSH, b""), message(SYNC, b""), message(TERMINATE, b"")
    sent = [startup("user", "me"), parse + describe + flush, bind + execute + sync, message(QUERY, b"BEGIN\0"), end]
    requests = Requests()
    found = [request for at in b"".join(sent) for request in requests.feed(bytes([at]))]
    assert [request.data for request in found] == sent
    assert [request.kind for request in found] == [STARTUP, FLUSH, SYNC, QUERY, TERMINATE]


def test_the_request_to_cancel_a_statement_stands_alone() -> None:
    sent = struct.pack("!iiii", 16, 80_877_102, 4_711, -1)
    assert list(Requests().feed(sent)) == [Request(CANCEL, sent, {})]


def test_timeouts_of_a_connection_are_taken_out_and_told() -> None:
    requests = Requests()
    [begun] = requests.feed(startup("user", "me", "lock_timeout", "5000", "jit", "off"))
    assert begun == Request(STARTUP, startup("user", "me", "lock_timeout", "0", "jit", "off"), {"lock": 5_000})


@pytest.mark.parametrize(
    ("statement", "sent", "timeouts_ms"),
    [
        ("SET idle_session_timeout = 3000", "SET idle_session_timeout = 0", {"idle_session": 3_000}),
        ("SET LOCAL lock_timeout = '60s'", "SET LOCAL lock_timeout = 0", {"lock": 60_000}),
        ("SET tcp_user_timeout = 3000", "SET tcp_user_timeout = 3000", {}),
    ],
)
def test_timeouts_of_statements_are_taken_out_and_told(statement: str, sent: str, timeouts_ms: dict[str, int]) -> None:
    requests = Requests()
    list(requests.feed(startup("user", "me")))
    [request] = requests.feed(message(QUERY, statement.encode() + b"\0"))
    assert request == Request(QUERY, message(QUERY, sent.encode() + b"\0"), timeouts_ms)
    *_, parsed = requests.feed(message(b"P", b"\0" + statement.encode() + b"\0\0\0") + message(FLUSH, b""))
    assert parsed.timeouts_ms == timeouts_ms


def test_replies_are_whole_messages_however_they_arrive() -> None:
    sent = [message(b"C", b"BEGIN\0"), message(b"Z", b"T")]
    replies = Replies()
    assert [one for at in b"".join(sent) for one in replies.feed(bytes([at]))] == sent
    assert next(replies.feed(b"".join(sent))) == sent[0]
    assert list(replies.feed(b"")) == sent[1:], "who stops in between has the rest later"
