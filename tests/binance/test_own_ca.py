"""Certificates of a company's own CA, for REST, archive and sockets alike, also behind an https:// proxy."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from app.outbound import Egress, proxy_of
from app.ports import UpstreamUnavailable
from infra.binance.http import HttpClient
from infra.binance.socket_connect import Connect
from infra.clock import SystemClock
from tests.binance.loopback import proxy as plain_proxy

OPENSSL = shutil.which("openssl")
CLOCK = SystemClock()
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not here")


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
    """A proxy that is itself spoken to by TLS and leads every name to `target_port`."""

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
    async with Connect(url, egress, CLOCK) as connection:
        await connection.send("hello")
        return str(await connection.recv())


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


async def test_a_proxy_spoken_to_by_tls_is_trusted_by_the_same_rule(ca: Path) -> None:
    async with sockets(ca) as port, tls_proxy(ca, port) as proxy:
        egress = trust(ca, "ca_file", f"https://localhost:{proxy}")
        assert await echoed(f"wss://localhost:{port}", egress) == "hello"
        assert await echoed(f"wss://127.0.0.1:{port}", egress) == "hello"
    async with rest(ca) as port, tls_proxy(ca, port) as proxy:
        egress = trust(ca, "ca_file", f"https://localhost:{proxy}")
        assert await get(f"https://localhost:{port}", egress) == 200
