"""A company's own CA, and SOCKS and https:// proxies, work alike for REST, archive and sockets."""

import asyncio
import gc
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from socksio.exceptions import ProtocolError
from websockets.asyncio.server import ServerConnection, serve

from app.outbound import Egress, proxy_of
from app.ports.errors import UpstreamUnavailable
from infra.net.http import HttpClient
from infra.net.websocket import Connect
from infra.process.clock import SystemClock
from tests.net.loopback import proxy as plain_proxy
from tests.net.loopback import socks_proxy

OPENSSL = shutil.which("openssl")
CLOCK = SystemClock()
TURNS = 5  # rounds of the event loop until an aborted connection is closed
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")


@pytest.fixture(autouse=True)
async def _nothing_stays_open() -> AsyncIterator[None]:
    """Abort the connections of failed handshakes, which httpcore and these servers leave to the garbage collector."""
    yield
    for each in gc.get_objects():
        if issubclass(type(each), asyncio.WriteTransport) and each._loop is asyncio.get_running_loop():
            each.abort()
    for _ in range(TURNS):
        await CLOCK.sleep(0)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")

    def openssl(*words: str) -> str:
        assert OPENSSL is not None
        return subprocess.run([OPENSSL, *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    usage = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(*new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=A company", *usage)
    openssl(*new, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    sign = ("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(*sign, "-out", "cert.pem", "-extfile", "ext")
    (folder / "certs").mkdir()
    name = openssl("x509", "-hash", "-noout", "-in", "ca.pem").strip()
    shutil.copy(folder / "ca.pem", folder / "certs" / f"{name}.0")
    return folder


def trust(ca: Path, by: str, proxy: str | None = None) -> Egress:
    found = proxy_of(proxy) if proxy else None
    return Egress(found, **{by: str(ca / ("ca.pem" if by == "ca_file" else "certs"))})


def context(ca: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(ca / "cert.pem", ca / "key.pem")
    return made


@asynccontextmanager
async def rest(ca: Path) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context(ca)) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def sockets(ca: Path) -> AsyncIterator[int]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, ssl=context(ca)) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@asynccontextmanager
async def tls_proxy(ca: Path, target_port: int) -> AsyncIterator[int]:
    """A proxy that is itself reached by TLS and connects every host name to `target_port`."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay(reader, far_writer))
            tasks.create_task(relay(far_reader, writer))

    async with await asyncio.start_server(lead, "127.0.0.1", 0, ssl=context(ca)) as server:
        yield server.sockets[0].getsockname()[1]


async def get(url: str, egress: Egress) -> int:
    client = HttpClient(url, CLOCK, lambda event: None, egress=egress)
    try:
        return (await client.get("/")).status
    finally:
        await client.aclose()


async def echoed(url: str, egress: Egress) -> str:
    async with await Connect(url, egress, CLOCK).open() as connection:
        await connection.send("hello")
        return b"".join(await connection.messages()).decode()


@pytest.mark.parametrize("by", ["ca_file", "ca_dir"])
async def test_rest_and_archive_trust_the_named_ca(ca: Path, by: str) -> None:
    async with rest(ca) as port:
        assert await get(f"https://localhost:{port}", trust(ca, by)) == 200
        with pytest.raises(UpstreamUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await get(f"https://localhost:{port}", Egress())


@pytest.mark.parametrize("by", ["ca_file", "ca_dir"])
async def test_sockets_trust_the_named_ca(ca: Path, by: str) -> None:
    async with sockets(ca) as port:
        assert await echoed(f"wss://localhost:{port}", trust(ca, by)) == "hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            await echoed(f"wss://localhost:{port}", Egress())


async def test_the_name_is_checked_too(ca: Path) -> None:
    async with sockets(ca) as port, plain_proxy(port) as middle:
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await echoed("wss://stream.test", trust(ca, "ca_file", middle.url))
    async with rest(ca) as port, plain_proxy(port) as middle:
        with pytest.raises(UpstreamUnavailable, match="mismatch"):
            await get("https://exchange.test", trust(ca, "ca_file", middle.url))


async def test_a_socks_proxy_leads_to_rest_and_sockets_alike(ca: Path) -> None:
    async with rest(ca) as port, socks_proxy(port) as middle:
        assert await get("https://localhost", trust(ca, "ca_file", middle.url)) == 200
        assert middle.requests == ["localhost"]
    async with sockets(ca) as port, socks_proxy(port) as middle:
        assert await echoed("wss://localhost", trust(ca, "ca_dir", middle.url)) == "hello"
        assert middle.requests == ["localhost"]


async def test_what_is_no_socks_proxy_is_an_unreachable_exchange(ca: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x05\x02\x01\xff\xff nonsense \x00")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        egress = trust(ca, "ca_file", f"socks5://u:geheim@127.0.0.1:{port}")
        with pytest.raises(OSError) as failed:
            await echoed("wss://localhost", egress)
        assert "geheim" not in str(failed.value)

    def refuse(_: httpx.Request) -> httpx.Response:
        raise ProtocolError("Malformed reply")  # raised by socksio; httpx does not translate it

    client = HttpClient("https://localhost", CLOCK, lambda event: None, transport=httpx.MockTransport(refuse))
    with pytest.raises(UpstreamUnavailable, match="Malformed reply"):
        await client.get("/")
    await client.aclose()


async def test_a_proxy_spoken_to_by_tls_is_trusted_by_the_same_rule(ca: Path) -> None:
    async with sockets(ca) as port, tls_proxy(ca, port) as proxy:
        egress = trust(ca, "ca_file", f"https://localhost:{proxy}")
        assert await echoed(f"wss://localhost:{port}", egress) == "hello"
        assert await echoed(f"wss://127.0.0.1:{port}", egress) == "hello"
    async with rest(ca) as port, tls_proxy(ca, port) as proxy:
        egress = trust(ca, "ca_file", f"https://localhost:{proxy}")
        assert await get(f"https://localhost:{port}", egress) == 200
