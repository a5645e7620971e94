"""What a client receives from a real server: status, headers, length, encodings, conditions."""

import asyncio
import gzip
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from tests.http.fakes import NOW_MS, Node, kline_body, served, wire

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
BODY = kline_body()
GZIP = ("Accept-Encoding", "gzip")
DATA_SEGMENTS_AT = 152  # the offset of tcpi_data_segs_in in struct tcp_info (linux/tcp.h)


@pytest.fixture
def node() -> Node:
    node = Node()
    node.query.body = BODY
    return node


@pytest.fixture
async def port(node: Node) -> AsyncIterator[int]:
    async with served(node.app) as port:
        yield port


async def test_a_page_has_exactly_these_headers_whether_rendered_or_kept(port: int, node: Node) -> None:
    rendered, kept = await wire(port, KLINES), await wire(port, KLINES)
    assert len(node.query.asked) == 1
    for answer in (rendered, kept):
        assert (answer.status, answer.body) == (200, BODY)
        assert answer.headers.pop("date")
        assert answer.headers.pop("etag").startswith('"')
        assert answer.headers == {
            "server": "uvicorn",
            "connection": "close",
            "content-type": "application/json",
            "content-length": str(len(BODY)),
            "vary": "Accept-Encoding",
            "x-mbx-used-weight-1m": "1",
            "access-control-allow-origin": "*",
            "cache-control": "public, max-age=8, stale-while-revalidate=2",
        }
    assert len(rendered.header_list) == len(dict(rendered.header_list)), "no header twice"


@pytest.mark.parametrize("is_kept", [False, True])
async def test_head_is_get_without_the_body(port: int, is_kept: bool) -> None:
    if is_kept:
        await wire(port, KLINES)
    head = await wire(port, KLINES, method="HEAD")
    get = await wire(port, KLINES)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(BODY))
    assert head.headers["etag"] == get.headers["etag"]


async def test_gzip_is_whole_and_has_its_own_tag(port: int) -> None:
    packed, plain = await wire(port, KLINES, headers=[GZIP]), await wire(port, KLINES)
    assert gzip.decompress(packed.body) == BODY == plain.body
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-length"] == str(len(packed.body))
    assert packed.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("is_kept", [False, True])
async def test_304_keeps_what_a_cache_needs_and_nothing_else(port: int, node: Node, method: str, is_kept: bool) -> None:
    tag = (await wire(port, KLINES)).headers["etag"]
    if not is_kept:
        node.clock.ms += 10_000
    for condition in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = await wire(port, KLINES, method=method, headers=[("If-None-Match", condition)])
        assert (answer.status, answer.body) == (304, b"")
        assert set(answer.headers) == {
            "date", "server", "connection", "etag", "vary", "cache-control", "x-mbx-used-weight-1m",
            "access-control-allow-origin",
        }  # fmt: skip
        assert answer.headers["etag"] == tag


async def test_a_condition_is_about_the_encoding_that_would_be_sent(port: int) -> None:
    plain = (await wire(port, KLINES)).headers["etag"]
    packed = (await wire(port, KLINES, headers=[GZIP])).headers["etag"]
    assert (await wire(port, KLINES, headers=[GZIP, ("If-None-Match", plain)])).status == 200
    assert (await wire(port, KLINES, headers=[GZIP, ("If-None-Match", packed)])).status == 304
    assert (await wire(port, KLINES, headers=[("If-None-Match", packed)])).status == 200
    split = [GZIP, ("If-None-Match", plain), ("If-None-Match", packed)]
    assert (await wire(port, KLINES, headers=split)).status == 304


async def test_max_age_never_outlives_the_candle(port: int, node: Node) -> None:
    node.query.valid_until_ms = NOW_MS + 3_900
    assert (await wire(port, KLINES)).headers["cache-control"] == "public, max-age=2"
    node.clock.ms += 3_000
    assert (await wire(port, KLINES)).headers["cache-control"] == "public, max-age=0, must-revalidate"
    assert len(node.query.asked) == 1
    node.clock.ms += 900
    await wire(port, KLINES)
    assert len(node.query.asked) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_error_has_a_length_and_is_kept_by_nobody(port: int, method: str) -> None:
    answer = await wire(port, "/fapi/v1/klines?symbol=NOPE&interval=1m", method=method)
    expected = b'{"code":-1121,"msg":"Invalid symbol."}'
    assert answer.status == 400
    assert answer.body == (expected if method == "GET" else b"")
    assert answer.headers["content-length"] == str(len(expected))
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-mbx-used-weight-1m"] == "1"
    assert answer.headers["content-type"] == "application/json"


async def test_a_symbol_that_is_not_ascii_is_served(port: int) -> None:
    assert (
        await wire(port, "/fapi/v1/klines?symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&interval=1m")
    ).status == 200


@pytest.mark.parametrize(("path", "shape"), [("/fapi/v1/klines", b'{"code":-1000,'), ("/v1/coverage", b'{"error":')])
async def test_oversized_requests_are_refused_in_the_right_shape(port: int, path: str, shape: bytes) -> None:
    long_query = await wire(port, f"{path}?x={'x' * 5000}")
    assert (long_query.status, long_query.body[: len(shape)]) == (414, shape)
    large_headers = await wire(port, path, headers=[("X-Large", "x" * 20_000)])
    assert (large_headers.status, large_headers.body[: len(shape)]) == (431, shape)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a socket's segments (TCP_INFO)")
@pytest.mark.parametrize("path", ["/fapi/v1/ping", "/v1/health", "/v1/nothing"])
async def test_a_small_answer_is_one_segment(port: int, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        for number in range(1, 6):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"content-length: (\d+)", head)
            assert size is not None, head
            await reader.readexactly(int(size[1]))
            assert data_segments(writer.get_extra_info("socket")) == number
    await writer.wait_closed()


def data_segments(client: socket.socket) -> int:
    """The number of segments with data that `client` has received."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("I", info, DATA_SEGMENTS_AT)[0])
