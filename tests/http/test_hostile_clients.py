"""Any bytes a client may send to a real server get the right status and shape, never a 500, and bounded memory."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence

import pytest

from app.http.intake import HEADER_BYTES_MAX, QUERY_BYTES_MAX
from app.http.page import CONDITION_BYTES_MAX
from app.http.refusing import HEAD_BYTES_MAX
from app.sockets.connections import Connections, Deadlines
from tests.http.fakes import Node, RawAnswer, kline_body, served, wire
from tests.patience import PATIENCE_S

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"


@pytest.fixture
def node() -> Node:
    node = Node()
    node.query.body = kline_body(20)
    node.symbols.info = b'{"symbols":[]}'
    return node


@pytest.fixture
async def port(node: Node) -> AsyncIterator[int]:
    async with served(node.app) as port:
        yield port


async def said(port: int, *pieces: bytes) -> bytes:
    """Send `pieces` and return everything the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])  # noqa: TID251  a reset is accepted too


def request(target: str | bytes, *headers: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    raw = target if isinstance(target, bytes) else target.encode()
    lines = [method.encode() + b" " + raw + b" HTTP/" + version.encode(), b"Host: 127.0.0.1", b"Connection: close"]
    return b"\r\n".join([*lines, *(header.encode() for header in headers), b"", b""]) + body


async def asked(port: int, *pieces: bytes) -> RawAnswer:
    return RawAnswer(await said(port, *pieces))


def shape(path: str) -> bytes:
    return b'{"code":' if path.startswith("/fapi") else b'{"error":'


@pytest.mark.parametrize("path", ["/fapi/v1/klines", "/v1/coverage"])
async def test_a_query_that_is_too_long_is_refused(port: int, path: str) -> None:
    query = "a&" * (QUERY_BYTES_MAX // 2)
    fits, exceeds = await asked(port, request(f"{path}?{query}")), await asked(port, request(f"{path}?{query}b"))
    assert (exceeds.status, exceeds.body[: len(shape(path))]) == (414, shape(path))
    assert fits.status in (200, 400)


async def test_many_parameters_that_fit_are_read(port: int, node: Node) -> None:
    answer = await asked(port, request(KLINES + "".join(f"&p{number}=1" for number in range(400))))
    assert answer.status == 200
    assert len(node.query.asked) == 1


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/fapi/v1/klines/../klines?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi/../../etc/passwd", 404),
        ("/fapi/v1/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/fapi/v1/klines%2f..%2f..%2fetc", 404),
        ("/fapi/v1/klines%00?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi//v1/klines?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi/v1/klines/?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi/v1/KLINES?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi/v1/klines;x=1?symbol=BTCUSDT&interval=1m", 404),
        ("/fapi/v1/" + "x" * 4_000, 404),
        ("/fapi/v1/" + "x" * 60_000, 414),
        ("/fapi/v1/%ff%fe%zz%", 404),
        ("/fapi/v1/klines?symbol=%00&interval=1m", 400),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m#fragment", 200),
        ("http://127.0.0.1/fapi/v1/klines?symbol=BTCUSDT&interval=1m", 200),
        ("http://elsewhere.example:99/fapi/v1/klines?symbol=BTCUSDT&interval=1m", 200),
        (b"/fapi/v1/klines?symbol=\xff\xfe&interval=1m", 400),
        ("/fapi/v1/klines?symbol=币安人生USDT&interval=1m", 400),
        (b"/fapi/v1/\xe5\xb8\x81", 400),
        (b"/fapi/v1/klines?symbol=BTC\x00USDT&interval=1m", 400),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&x= y", 400),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_odd_targets_end_in_binances_shape(port: int, target: str | bytes, status: int) -> None:
    answer = await asked(port, request(target))
    assert answer.status == status, answer.body[:300]
    assert answer.body[:1] == b"[" if status == 200 else answer.body.startswith(b'{"code":')
    assert len(answer.body) < 10_000


@pytest.mark.parametrize(
    "target", ["/v1/../v1/health", "/v1/health%00", "//v1/health", "/%2e%2e/v1/health", "/docs/../x"]
)
async def test_odd_targets_of_ours_are_not_there(port: int, target: str) -> None:
    answer = await asked(port, request(target))
    assert (answer.status, answer.body[:9]) == (404, b'{"error":')


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "M-SEARCH", "POST"]
)
async def test_other_methods_are_told_which_are_right(port: int, method: str) -> None:
    answer = await asked(port, request(KLINES, method=method))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.body.startswith(b'{"code":-5000,')


@pytest.mark.parametrize(
    "raw",
    [
        request(KLINES, method="FETCH"),
        request(KLINES, method="get"),
        request(KLINES, version="9.9"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # a TLS client hello
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        request(KLINES, "Content-Length: 5", "Content-Length: 6"),
        request(KLINES, "Content-Length: -1"),
        request(KLINES, "Content-Length: 99999999999999999999999"),
        request(KLINES, "Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n"),
        request(KLINES, "Bad Header"),
        request(KLINES, " Folded: x"),
        request(KLINES, "X: a\x00b"),
    ],
)
async def test_what_is_no_http_is_refused_and_hung_up_on(port: int, raw: bytes) -> None:
    answer = await asked(port, raw)
    assert answer.status in (400, 404, 405), answer.body
    assert answer.body.startswith((b'{"code":', b'{"error":'))
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Content-Length: 5"], b"hello"),
        (["Content-Length: 60000"], b"x" * 60_000),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
        (["Expect: 100-continue", "Content-Length: 5"], b"hello"),
        (["Content-Type: application/json", "Content-Length: 2"], b"{}"),
    ],
)
async def test_a_body_on_a_get_changes_nothing(port: int, headers: Sequence[str], body: bytes) -> None:
    told = await said(port, request(KLINES, *headers, body=body))
    answer = RawAnswer(told.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert (answer.status, answer.body) == (200, kline_body(20))


async def test_requests_sent_in_one_piece_are_answered_one_after_the_other(port: int) -> None:
    many = 200
    piece = b"".join(
        b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=%d HTTP/1.1\r\nHost: x\r\n\r\n" % (1 + number)
        for number in range(many)
    )
    told = await said(port, piece + request("/fapi/v1/ping"))
    assert told.count(b"HTTP/1.1 200 OK") == many + 1
    assert told.endswith(b"{}")


@pytest.mark.parametrize(
    "value",
    ["bytes=0-9", "bytes=-1", "bytes=5-2", "bytes=0-0,5-9", "rows=1-2", "bytes=0-" + "9" * 400, ""],
)
async def test_a_range_is_not_honoured_and_the_whole_is_sent(port: int, value: str) -> None:
    answer = await asked(port, request(KLINES, f"Range: {value}", "If-Range: x"))
    assert (answer.status, answer.body) == (200, kline_body(20))


@pytest.mark.parametrize(
    "condition",
    [
        ", ".join(f'"{number:032x}"' for number in range(100)),
        '"' * (CONDITION_BYTES_MAX + 1),
        "W/" * 2_000,
        '"' + "a" * 12_000 + '"',
        ",".join(["*"] * 2_000),
        "W/W/W/",
    ],
    ids=lambda value: value[:12],
)
async def test_huge_conditions_get_the_whole_answer(port: int, condition: str) -> None:
    assert (await asked(port, request(KLINES, f"If-None-Match: {condition}"))).status == 200


async def test_a_condition_in_a_hundred_headers_is_one_list(port: int) -> None:
    tag = (await wire(port, KLINES)).headers["etag"]
    conditions = [f'If-None-Match: "{number}"' for number in range(60)]
    assert (await asked(port, request(KLINES, *conditions, f"If-None-Match: {tag}"))).status == 304


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (KLINES, 200),
        ("/fapi/v1/klines?symbol=NOPE&interval=1m", 400), ("/fapi/v1/ping", 200), ("/fapi/v1/time", 200),
        ("/fapi/v1/exchangeInfo", 200), ("/fapi/nothing", 404), ("/v1/health", 200), ("/v1/ready", 503),
        ("/nothing", 404),
        ("/v1/coverage", 200), ("/v1/coverage?limit=0", 400), ("/v1/admin/backfill", 405), ("/docs", 200),
        ("/openapi.json", 200), (f"/fapi/v1/klines?{'x' * 5000}", 414),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_head_is_get_without_a_body_everywhere(port: int, path: str, status: int) -> None:
    get, head = await asked(port, request(path)), await asked(port, request(path, method="HEAD"))
    assert (get.status, head.status, head.body) == (status, status, b"")
    assert head.headers["content-length"] == str(len(get.body)) == get.headers["content-length"]
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/fapi/v1/klines", "/v1/coverage"])
@pytest.mark.parametrize(
    "headers",
    [
        [f"X-Large: {'x' * HEADER_BYTES_MAX}"],
        [f"X-{number}: {'x' * 20}" for number in range(800)],
        ["X: "] * (HEADER_BYTES_MAX // 5 + 1),
    ],
    ids=["one", "many", "empty"],
)
async def test_a_header_block_that_is_too_large_is_refused(port: int, path: str, headers: list[str]) -> None:
    answer = await asked(port, request(path, *headers))
    assert (answer.status, answer.body[: len(shape(path))]) == (431, shape(path))


@pytest.mark.parametrize(
    "begin",
    [b"GET /fapi/v1/klines?x=", b"GET /fapi/v1/klines HTTP/1.1\r\nX: ", b"GET /fapi/v1/klines HTTP/1.1\r\nA: 1\r\nX"],
    ids=["url", "value", "name"],
)
async def test_a_request_that_never_ends_is_cut_and_costs_no_memory(port: int, begin: bytes) -> None:
    tracemalloc.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        told = asyncio.ensure_future(reader.read())  # noqa: TID251  read while writing, as a client does
        sent = 0
        async with asyncio.timeout(PATIENCE_S):
            while not told.done() and not writer.transport.is_closing():
                writer.write(b"x" * 65_536)
                sent += 65_536
                assert sent < 500 * HEAD_BYTES_MAX, "nobody stops this"
                try:
                    await writer.drain()
                except ConnectionError:
                    break
        assert tracemalloc.get_traced_memory()[1] < 30 * HEAD_BYTES_MAX
        await asyncio.wait([told])
        writer.transport.abort()
    finally:
        tracemalloc.stop()
    if told.exception() is None:  # the server closed before reading everything; a reset may discard its answer
        assert told.result() == b"" or RawAnswer(told.result()).status in (414, 431)


async def test_a_small_request_that_never_ends_is_answered_431(port: int) -> None:
    answer = await asked(port, b"GET /fapi/v1/klines HTTP/1.1\r\n" + b"X: y\r\n" * (HEAD_BYTES_MAX // 6 + 1))
    assert (answer.status, answer.body[:8]) == (431, b'{"code":')


@pytest.mark.parametrize("begin", [b"", b"G", b"GET /fapi/v1/klines HTTP/1.1\r\nHost: x\r\n"])
async def test_who_does_not_finish_a_request_is_not_waited_for(node: Node, begin: bytes) -> None:
    async with served(node.app, connections=Connections(Deadlines(head_s=0.05, sweep_s=0.01))) as port:
        assert (await asked(port, begin)).status == 408


async def test_a_second_request_that_is_never_finished_is_not_waited_for(node: Node) -> None:
    async with served(node.app, connections=Connections(Deadlines(head_s=0.2, sweep_s=0.01))) as port:
        told = await said(port, b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /fapi/v1/ping HT")
    assert told.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 408 " in told


async def test_a_slow_answer_is_not_cut_by_the_clock_of_requests(node: Node) -> None:
    overdue = asyncio.Event()

    async def meanwhile() -> None:
        asyncio.get_running_loop().call_later(0.2, overdue.set)
        await overdue.wait()

    node.query.meanwhile = meanwhile
    short = Deadlines(head_s=0.05, body_s=0.05, send_s=0.05, idle_s=0.05, sweep_s=0.01)
    async with served(node.app, connections=Connections(short)) as port:
        assert (await asked(port, request(KLINES))).status == 200
