"""nginx's own refusals have the node's shape, with the configuration that is shipped; no node runs here."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from infra.net.tls import trusting_nobody
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import Programs, free_port, until

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")

BURST = 200  # as in the shipped file: so many requests pass at once
KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
LIMITED = [
    KLINES,
    "/fapi/v1/depth?symbol=BTCUSDT",
    "/fapi/v1/exchangeInfo",
    "/futures/data/basis?pair=BTCUSDT",
    "/ws/btcusdt@kline_1m",
    "/stream?streams=btcusdt@kline_1m",
    "/market/ws",
    "/v1/coverage",
    "/v1/verification",
    "/v1/admin/verify",
    "/docs",
    "/",
]
UNLIMITED = ["/v1/health", "/v1/ready", "/metrics"]


@asynccontextmanager
async def front(
    folder: Path, node_port: int, *, rate: str = "60r/s", timeout: str = "30s", has_proxy: bool = False
) -> AsyncIterator[int]:
    """Start nginx in front of `node_port`, with this machine as a proxy before it if `has_proxy`; yields its port."""
    assert NGINX is not None
    port = free_port()
    conf = nginx_conf(folder, port, node_port, rate=rate, options=["PROXY"] if has_proxy else [])
    text = conf.read_text().replace("set_real_ip_from 10.0.0.5;", "set_real_ip_from 127.0.0.1;")
    assert "proxy_read_timeout 30s;" in text
    conf.write_text(text.replace("proxy_read_timeout 30s;", f"proxy_read_timeout {timeout};"))
    async with Programs(folder) as programs:
        programs.start("-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log"), command=(NGINX,))

        async def listens() -> bool:
            async with client_of(port) as client:
                return (await client.get("/v1/health")).status_code > 0

        await until(listens, "nginx answers")
        yield port


def client_of(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=25, verify=trusting_nobody())


def told(port: int, request_head: bytes) -> bytes:
    """Send bytes and return everything received, even if nginx resets the connection after its answer."""
    came = b""
    with socket.create_connection(("127.0.0.1", port), timeout=25) as client, suppress(ConnectionError):
        client.sendall(request_head)
        while block := client.recv(65_536):
            came += block
    return came


def check_shape(answer: httpx.Response, path: str, code: int) -> None:
    assert answer.headers["content-type"] == "application/json", path
    assert answer.headers["cache-control"] == "no-store", path
    body = answer.json()
    if path.startswith(("/fapi", "/futures")) or answer.status_code == 429:
        assert set(body) == {"code", "msg"}, path
        assert body["code"] == code, path
        assert answer.headers["x-mbx-used-weight-1m"] == "1"
        assert answer.headers["access-control-allow-origin"] == "*"
    else:
        assert set(body) == {"error"}, path
    assert ("retry-after" in answer.headers) is (answer.status_code in (429, 502, 503, 504)), path


async def test_too_many_requests_are_429_as_at_binance_wherever_there_is_a_limit(tmp_path: Path) -> None:
    async with front(tmp_path, free_port(), rate="1r/m") as port, client_of(port) as client:
        statuses = [(await client.get(KLINES)).status_code for _ in range(BURST + 20)]
        assert statuses.count(502) in (BURST + 1, BURST + 2), "the burst is let through"
        for path in LIMITED:
            for method in ("GET", "POST"):
                answer = await client.request(method, path)
                assert answer.status_code == 429, f"{method} {path}"
                check_shape(answer, path, -1003)
                assert int(answer.headers["retry-after"]) > 0
            head = await client.head(path)
            assert (head.status_code, head.content) == (429, b"")
        for path in UNLIMITED:
            assert (await client.get(path)).status_code == 502, "monitoring is not limited"


async def test_what_never_reaches_the_node_is_refused_in_its_shape(tmp_path: Path) -> None:
    async with front(tmp_path, free_port()) as port, client_of(port) as client:
        for path in ("/fapi/v1/depth", KLINES, "/futures/data/basis", "/v1/coverage", "/docs", "/ws"):
            answer = await client.get(path)
            assert answer.status_code == 502
            check_shape(answer, path, -1001)
        for path in ("/fapi/v1/order", "/futures/data/basis", "/v1/admin/backfill"):
            answer = await client.post(path, content=b"x" * (1 << 21))
            assert answer.status_code == 413
            check_shape(answer, path, -1000)
        for path in ("/fapi/v1/klines", "/v1/coverage"):
            answer = await client.get(path, headers={"x-long": "x" * 70_000})
            assert answer.status_code == 431, "as the node"
            check_shape(answer, path, -1000)
        for path in ("/fapi/v1/klines", "/v1/coverage"):
            answer = await client.request("TRACE", path)
            assert answer.status_code == 405
            check_shape(answer, path, -1000)
        answer = await client.get("/klinenode-error")
        assert answer.status_code == 404, "what errors are made of is no route"
        check_shape(answer, "/klinenode-error", -1000)


async def test_metrics_and_the_collector_are_for_private_networks_only(tmp_path: Path) -> None:
    private = ["/metrics", "/api/v1/status", "/api/v1/exchanges/okx/subscribe", "/api//v1/status", "/%61pi/v1/status"]
    async with (
        front(tmp_path, free_port(), has_proxy=True) as port,
        client_of(port) as client,
    ):
        for path in private:
            for address, status in (("192.168.7.7", 502), ("203.0.113.7", 403)):
                answer = await client.get(path, headers={"X-Forwarded-For": address})
                assert answer.status_code == status, f"{path} of {address}"
        check_shape(answer, private[-1], -1000)
        answer = await client.get("/v1/coverage", headers={"X-Forwarded-For": "203.0.113.7"})
        assert answer.status_code == 502, "the others are for everyone"


@pytest.mark.parametrize(
    ("status", "request_head"),
    [
        (400, b"GARBAGE\r\n\r\n"),
        (400, b"GET /fapi/v1/klines HTTP/1.1\r\n\r\n"),  # no Host header
        (400, b"GET /fapi/v1/klines HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET /fapi/v1/klines HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        (414, b"GET /fapi/v1/klines?x=" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (505, b"GET /fapi/v1/klines HTTP/9.1\r\nHost: a\r\n\r\n"),
    ],
    ids=["garbage", "no host", "two hosts", "no length", "too long", "of the future"],
)
async def test_a_head_that_cannot_be_read_is_refused_in_binances_shape(
    tmp_path: Path, status: int, request_head: bytes
) -> None:
    async with front(tmp_path, free_port()) as port:
        head, _, body = (await asyncio.to_thread(told, port, request_head)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncontent-type: application/json\r\n" in head.lower() + b"\r\n"
    assert json.loads(body)["code"] == -1000


async def test_a_node_that_does_not_answer_is_504_in_the_shape_of_the_path(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        try:
            node_port = server.sockets[0].getsockname()[1]
            async with front(tmp_path, node_port, timeout="1s") as port, client_of(port) as client:
                for path in ("/fapi/v1/depth", "/v1/coverage"):
                    answer = await client.get(path)
                    assert answer.status_code == 504
                    check_shape(answer, path, -1007)
        finally:
            ended.set()
