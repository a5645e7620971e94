"""Every refused request gets a status line in the shape of its path, the same however the bytes are split."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

import pytest

from app.http.bounded import KEPT_BYTES_MAX, PIPELINE_MAX
from app.http.intake import HEADER_BYTES_MAX, PATH_BYTES_MAX, QUERY_BYTES_MAX
from app.http.refusing import HEAD_BYTES_MAX
from app.sockets.connections import Connections, Deadlines
from tests.http.fakes import LOCAL_TOKEN, Node, RawAnswer, kline_body, served
from tests.patience import PATIENCE_S

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
BODY = kline_body(3)
STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")
UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
]


def request(target: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: 127.0.0.1", *headers, "", body]).encode()


async def said(port: int, *pieces: bytes, ends: bool = False) -> bytes:
    """Send `pieces`, with `ends` also EOF, and return everything the server sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    if ends:
        writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    writer.close()
    return told


def statuses(told: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(told)]


@pytest.fixture
def node() -> Node:
    node = Node()
    node.query.body = BODY
    return node


@pytest.fixture
def connections() -> Connections:
    return Connections(Deadlines(linger_s=0.05, sweep_s=0.01))


@pytest.fixture
async def port(node: Node, connections: Connections) -> AsyncIterator[int]:
    async with served(node.app, connections=connections) as port:
        yield port


CHUNKED = "Transfer-Encoding: chunked"
POST = "/v1/admin/backfill"
UNKNOWN_UPGRADE = ("Connection: upgrade", "Upgrade: h2c")
OPERATOR = f"Authorization: Bearer {LOCAL_TOKEN}"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(KLINES, CHUNKED, body="zz\r\nhello\r\n"), 400),
        (request(KLINES, CHUNKED, "Connection: close", body="zz\r\nhello\r\n"), 400),
        (request(POST, OPERATOR, CHUNKED, method="POST", body="zz\r\nhello\r\n"), 400),
        (request(POST, OPERATOR, CHUNKED, method="POST", body="5\r\nhelloXX"), 400),
        (request(KLINES, "Transfer-Encoding: gzip"), 400),
        (request(KLINES, "Content-Length: 5", "Content-Length: 6"), 400),
        (request(KLINES, "Content-Length: x"), 400),
        (request(KLINES, version="2.0"), 505),
        (request(KLINES, version="3.7"), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, 400),
        (b"nonsense\r\n\r\n", 400),
        (request(KLINES, *(f"X-{number}: {'y' * 1000}" for number in range(100))), 431),
        (request(KLINES + "&x=" + "x" * 70_000), 414),
        (request("/fapi/v1/" + "x" * 70_000), 414),
        (request("/fapi/v1/" + "x" * PATH_BYTES_MAX, "Connection: close"), 414),
        (request("/ws", *UPGRADE, method="POST"), 405),
        (request("/ws", *UPGRADE, version="1.0"), 505),
        (request("/ws", *UPGRADE, "Content-Length: 5", body="hello"), 400),
        (request("/ws", *UPGRADE, CHUNKED, body="zz\r\n"), 400),
        (request("/ws", *UPGRADE, body="\xff\xff\xff\xff"), 503),
        (request("/nowhere", *UPGRADE), 404),
        (request(POST, OPERATOR, *UNKNOWN_UPGRADE, "Content-Length: 2", method="POST", body="{}"), 400),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
@pytest.mark.parametrize("size", [1 << 20, 1_000, 61])
async def test_a_refused_request_gets_one_status_line_wherever_its_pieces_end(
    port: int, raw: bytes, status: int, size: int
) -> None:
    told = await said(port, *(raw[at : at + size] for at in range(0, len(raw), size)))
    assert statuses(told) == [status], told
    answer = RawAnswer(told)
    assert answer.headers["connection"] == "close"
    assert int(answer.headers["content-length"]) == len(answer.body)
    if raw.partition(b" ")[2].startswith(b"/fapi"):
        assert answer.body.startswith(b'{"code":-1000,"msg":"')


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(KLINES), 200),
        (request(KLINES) + request("/fapi/v1/ping"), 200),
        (request(KLINES)[:-20], 400),
        (request(KLINES, "Content-Length: 5", body="he"), 400),
        (request(POST, OPERATOR, "Content-Length: 5", method="POST", body="he"), 400),
        (b"GET", 400),
    ],
)
@pytest.mark.parametrize("is_in_memory", [False, True])
async def test_who_ends_its_half_of_the_connection_is_answered(
    node: Node, port: int, raw: bytes, status: int, is_in_memory: bool
) -> None:
    node.query.is_in_memory = is_in_memory
    told = await said(port, raw, ends=True)
    assert statuses(told) == [status] * raw.count(b"GET /") if status == 200 else [status]
    assert status != 200 or told.startswith(b"HTTP/1.1 200 OK")


async def test_a_connection_that_ends_without_a_request_is_no_fault(port: int, connections: Connections) -> None:
    assert await said(port, ends=True) == b""
    assert not connections.refused_total


@pytest.mark.parametrize("behind", [b"\x00\x01nonsense\r\n\r\n", request(KLINES, CHUNKED, body="zz\r\n")])
@pytest.mark.parametrize("waiting", [1, 3])
async def test_answers_that_are_under_way_come_before_a_refusal(
    node: Node, port: int, behind: bytes, waiting: int
) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def meanwhile() -> None:
        asked.set()
        await may_go_on.wait()

    node.query.meanwhile = meanwhile
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(request(f"{KLINES}&limit={number + 1}") for number in range(waiting)) + behind)
    async with asyncio.timeout(PATIENCE_S):
        await asked.wait()
        await said(port, request("/fapi/v1/ping", "Connection: close"))  # by now the server has read the pieces
        may_go_on.set()
        told = await reader.read()
    writer.close()
    assert statuses(told) == [200] * waiting + [400]
    assert told.count(BODY) == waiting


async def test_a_handshake_behind_an_answer_under_way_does_not_mix_with_it(node: Node, port: int) -> None:
    node.query.is_in_memory = False
    told = await said(port, request(KLINES) + request("/ws", *UPGRADE))
    assert statuses(told) == [200, 400]
    assert BODY in told


@pytest.mark.parametrize("is_one_piece", [True, False])
async def test_a_request_behind_one_for_another_protocol_is_answered(port: int, is_one_piece: bool) -> None:
    sent = [request(KLINES, "Connection: upgrade", "Upgrade: h2c"), request("/fapi/v1/ping", "Connection: close")]
    assert statuses(await said(port, *([b"".join(sent)] if is_one_piece else sent))) == [200, 200]


@pytest.mark.parametrize(("target", "status"), [("/fapi/v1/order", 401), (POST, 413), (KLINES, 405), ("/nothing", 404)])
@pytest.mark.parametrize("close", [(), ("Connection: close",)])
async def test_an_answer_before_the_end_of_a_large_body_reaches_who_sends_it(
    port: int, target: str, status: int, close: Sequence[str]
) -> None:
    size = 3_000_000
    head = request(target, OPERATOR, f"Content-Length: {size}", *close, method="POST")
    told = await said(port, head, *[b"x" * 100_000] * (size // 100_000), ends=True)
    assert statuses(told) == [status]


async def test_more_requests_than_may_wait_are_all_answered_in_order(node: Node, port: int) -> None:
    many = 5 * PIPELINE_MAX
    sent = [request(f"{KLINES}&limit={1 + number}") for number in range(many)]
    told = await said(port, b"".join(sent), ends=True)
    assert statuses(told) == [200] * many
    assert [query.limit for query in node.query.asked] == list(range(1, many + 1))
    assert len(b"".join(sent)) < KEPT_BYTES_MAX


@pytest.mark.parametrize("kind", ["kept", "in memory", "neither"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_limit_holds_whether_or_not_memory_has_the_answer(
    node: Node, port: int, kind: str, method: str
) -> None:
    fits = HEADER_BYTES_MAX - 100
    cases: list[tuple[Sequence[str], int]] = [
        ([f"X: {'x' * fits}"], 200),
        ([f"X: {'x' * HEADER_BYTES_MAX}"], 431),
        (["X: "] * (HEADER_BYTES_MAX // 5 + 1), 431),
        ([f"If-None-Match: {'x' * HEADER_BYTES_MAX}"], 431),
        ([f"X: {'x' * HEAD_BYTES_MAX}"], 431),
    ]
    node.query.is_in_memory = kind == "in memory"
    if kind == "kept":
        await said(port, request(KLINES, "Connection: close"))
    for headers, status in cases:
        sent = request(KLINES, *headers, "Connection: close", method=method)
        for pieces in ([sent], [sent[:5_000], sent[5_000:]], [sent[at : at + 900] for at in range(0, len(sent), 900)]):
            for _ in range(2):
                assert statuses(await said(port, *pieces)) == [status], (headers[0][:20], len(pieces))
    query = "&x=" + "x" * QUERY_BYTES_MAX
    assert statuses(await said(port, request(KLINES + query, "Connection: close", method=method))) == [414]


async def test_refusals_are_counted_by_status(port: int, connections: Connections) -> None:
    await said(port, b"nonsense\r\n\r\n")
    await said(port, request(KLINES, version="2.0"))
    await said(port, request("/nowhere", *UPGRADE))
    assert connections.refused_total == {400: 1, 505: 1, 404: 1}
