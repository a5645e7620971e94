"""nginx's cache, TLS, reload and trust in proxies, with the configuration that is shipped; the node is a stand-in."""

import asyncio
import gzip
import shutil
import signal
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from tests.patience import PATIENCE_S
from tests.system.nginx import MAIN, NGINX, nginx_conf
from tests.system.processes import Program, Programs, free_port, until

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")

KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"
EXPIRED_S = 2.1  # nginx counts whole seconds, with the first and the last
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\n"
UNABLE = "503 Service Unavailable"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass
class StandIn:
    """Answers every request with what a node says of klines, and remembers the heads that it received."""

    cache_control: str = "public, max-age=10"
    status: str = "200 OK"
    heads: list[str] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                if "upgrade: websocket" in head.lower():
                    writer.write(SWITCHED)
                    await self.is_over.wait()
                    return
                await self.may_answer.wait()
                is_gzip = "accept-encoding: gzip" in head.lower()
                coding, body = ("Content-Encoding: gzip\r\n", gzip.compress(b"[]")) if is_gzip else ("", b"[]")
                stated = f"{HEAD.replace('200 OK', self.status)}{coding}Cache-Control: {self.cache_control}\r\n"
                writer.write(f"{stated}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # nginx has closed the connection
        finally:
            writer.close()


@dataclass
class Front:
    port: int
    node: StandIn
    nginx: Program
    folder: Path

    def client(self, **headers: str) -> httpx.AsyncClient:
        url = f"http://127.0.0.1:{self.port}"
        return httpx.AsyncClient(base_url=url, trust_env=False, timeout=25, headers=headers, verify=trusting_nobody())


@asynccontextmanager
async def front(folder: Path, *, rate: str = "1000r/s", main: str = "", tls: tuple[Path, int] | None = None,
                proxy: str = "") -> AsyncIterator[Front]:  # fmt: skip
    assert NGINX is not None
    node = StandIn()
    node.may_answer.set()
    async with await asyncio.start_server(node.serve, "127.0.0.1", 0) as server, Programs(folder) as programs:
        port = free_port()
        options = (*(("TLS",) if tls else ()), *(("PROXY",) if proxy else ()))
        conf = nginx_conf(folder, port, server.sockets[0].getsockname()[1], rate=rate, main=main, options=options)
        text = conf.read_text()
        if tls is not None:
            text = text.replace("http2 on;", "").replace("listen 443 ssl;", f"listen 127.0.0.1:{tls[1]} ssl http2;")
            text = text.replace("/etc/letsencrypt/live/example.com", str(tls[0]))
        conf.write_text(text.replace("10.0.0.5", proxy))
        command = (NGINX, "-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log"))
        checked = programs.start("-t", command=command)
        assert await checked.ended() == 0, checked.said()
        made = Front(port, node, programs.start(command=command), folder)

        async def listens() -> bool:
            async with made.client() as client:
                return (await client.get("/v1/health")).status_code > 0

        await until(listens, "nginx answers")
        node.heads.clear()
        try:
            yield made
        finally:
            node.is_over.set()
            node.may_answer.set()


async def test_a_page_is_kept_once_for_each_encoding_and_not_for_each_wording(tmp_path: Path) -> None:
    async with front(tmp_path) as made, made.client() as client:
        seen: Counter[str] = Counter()
        for accept, coding in (
            ("gzip", "gzip"), ("gzip, deflate", "gzip"), ("deflate, gzip;q=1.0, *;q=0.5", "gzip"), ("GZIP", "gzip"),
            ("br;q=1, x-gzip;q=0.8", "gzip"), ("identity", ""), ("", ""), ("gzip;q=0", ""), ("br", ""), ("agzip", ""),
            ("gzip;q=0.000", ""),
        ):  # fmt: skip
            request = client.build_request("GET", KLINES, headers={"Accept-Encoding": accept})
            answer = await client.send(request, stream=True)
            await answer.aclose()
            assert answer.headers.get("content-encoding", "") == coding, accept
            assert answer.headers["vary"] == "Accept-Encoding"
            seen[answer.headers["x-cache-status"]] += 1
        assert seen == {"MISS": 2, "HIT": 9}
        assert len(made.node.heads) == 2


async def test_a_request_with_a_key_always_reaches_the_node_and_is_kept_for_nobody(tmp_path: Path) -> None:
    async with front(tmp_path) as made:
        for header in ("X-MBX-APIKEY", "Authorization"):
            async with made.client(**{header: "k"}) as client:
                for _ in range(3):
                    assert (await client.get(KLINES)).headers["x-cache-status"] == "BYPASS"
        assert len(made.node.heads) == 6
        assert sum("x-mbx-apikey: k" in head.lower() for head in made.node.heads) == 3
        made.node.cache_control = "private, max-age=10"
        async with made.client() as client:
            for _ in range(3):
                answer = await client.get(KLINES)
                assert answer.headers["x-cache-status"] == "MISS", "a private page was kept"


async def test_a_page_is_sent_while_the_next_one_is_fetched_only_when_the_node_allows_it(tmp_path: Path) -> None:
    async with front(tmp_path) as made, made.client() as client:
        for allowed, expected in ((", stale-while-revalidate=60", "STALE"), ("", "EXPIRED")):
            target = f"{KLINES}&limit={len(expected)}"
            made.node.cache_control = f"public, max-age=1{allowed}"
            assert (await client.get(target)).headers["x-cache-status"] == "MISS"
            await SystemClock().sleep(EXPIRED_S)
            made.node.may_answer.clear()
            asked = len(made.node.heads)
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(client.get(target))
                while len(made.node.heads) == asked:  # nginx asks the node in either case
                    await SystemClock().sleep(0.01)
                if allowed:
                    await answer  # and does not wait for it in this one
                made.node.may_answer.set()
            assert answer.result().headers["x-cache-status"] == expected
            assert answer.result().headers["cache-control"].endswith("must-revalidate") is bool(allowed)


def make_certificate(openssl: str, folder: Path) -> None:
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem"))
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)


async def test_tls_is_turned_on_as_the_file_says(tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    port = free_port()
    await asyncio.to_thread(make_certificate, openssl, tmp_path)
    async with front(tmp_path, tls=(tmp_path, port)) as made:
        context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            assert (await client.get(f"https://127.0.0.1:{port}{KLINES}")).json() == []
        async with made.client() as client:
            answer = await client.get(KLINES)
            assert (answer.status_code, answer.headers["location"]) == (308, f"https://127.0.0.1{KLINES}")
        assert "x-forwarded-proto: https" in made.node.heads[-1].lower()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            assert (await client.get(f"https://127.0.0.1:{port}/v1/health")).status_code == 200


async def test_a_reload_does_not_wait_for_sockets_for_ever(tmp_path: Path) -> None:
    main = MAIN.read_text()
    assert "worker_shutdown_timeout 30s;" in main
    async with front(tmp_path, main=main.replace("30s", "1s")) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET /ws/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        [before] = workers(made.nginx)
        made.nginx.signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b"", "the socket of the old worker is closed"
        writer.close()

        async def has_ended() -> bool:
            return before not in workers(made.nginx)

        await until(has_ended, "the old worker has ended")
        async with made.client() as client:
            assert (await client.get(KLINES)).status_code == 200


def workers(nginx: Program) -> list[int]:
    return [
        pid for pid in nginx.members() if pid != nginx.pid and b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize("trusted", ["", "127.0.0.1", "10.9.9.9"])
async def test_only_a_proxy_that_is_named_by_its_address_may_name_clients(tmp_path: Path, trusted: str) -> None:
    async with front(tmp_path, rate="1r/m", proxy=trusted) as made:
        statuses: Counter[int] = Counter()
        async with made.client() as client:
            for number in range(260):
                forged = {"X-Forwarded-For": f"192.0.2.{number % 250}"}
                statuses[(await client.get("/fapi/v1/time", headers=forged)).status_code] += 1
        if trusted == "127.0.0.1":
            assert statuses == {200: 260}, "each address that the proxy names has a limit of its own"
        else:
            assert statuses[429] >= 50, "an address that anybody named was taken for a client's"


@dataclass
class TwoNodes:
    nodes: tuple[StandIn, StandIn]
    client: httpx.AsyncClient


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[TwoNodes]:
    """Two nodes that are well, behind nginx that answers."""
    assert NGINX is not None
    nodes = (StandIn(), StandIn())
    for node in nodes:
        node.may_answer.set()
    async with (
        await asyncio.start_server(nodes[0].serve, "127.0.0.1", 0) as one,
        await asyncio.start_server(nodes[1].serve, "127.0.0.1", 0) as two,
        Programs(folder) as programs,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (one, two)]
        port = free_port()
        conf = nginx_conf(folder, port, ports[0], second_port=ports[1], rate="1000r/s")
        programs.start("-p", str(folder), "-c", str(conf), "-e", str(folder / "error.log"), command=(NGINX,))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=25, verify=trusting_nobody()
        ) as client:

            async def listens() -> bool:
                return (await client.get("/v1/health")).status_code == 200

            await until(listens, "nginx answers")
            yield TwoNodes(nodes, client)


async def test_only_reads_are_sent_to_the_other_node(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as made:
        (sick, well), client = made.nodes, made.client
        sick.status, sick.cache_control = UNABLE, "no-store"
        for number in range(50):
            assert (await client.get(f"/fapi/v1/depth?limit={number}")).status_code == 200
        assert any("GET" in head for head in sick.heads), "the sick node was never tried"
        asked = len(sick.heads)
        await SystemClock().sleep(1.1)  # nginx tries the sick node again
        statuses = [(await client.post(f"/v1/admin/backfill?n={number}")).status_code for number in range(4)]
        assert sum("POST" in head for head in (*sick.heads, *well.heads)) == 4, "a POST was sent twice"
        assert statuses.count(503) == sum("POST" in head for head in sick.heads[asked:])


async def test_two_nodes_that_failed_in_the_same_second_are_asked_again_at_once(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as made:
        for node in made.nodes:
            node.status = UNABLE
        assert (await made.client.get("/v1/ready")).status_code == 503
        assert all(node.heads[-1].startswith("GET /v1/ready") for node in made.nodes), "one of them was not asked"
        made.nodes[1].status = "200 OK"
        for number in range(4):  # the first node is not well yet
            assert (await made.client.get(f"/fapi/v1/depth?limit={number}")).status_code == 200
