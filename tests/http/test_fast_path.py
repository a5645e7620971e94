"""Requests answered in the protocol get the same bytes as on the long way through ASGI, and in order."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.http.fast_path import FastPath
from tests.http.fakes import Node, served
from tests.http.offline import BODY, HEADERS, KLINES, PATH, QUERIES, request
from tests.patience import PATIENCE_S

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
