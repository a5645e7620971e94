"""Small real servers on loopback (an HTTP host and proxies), and a recorder of events that tests can wait on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from app.events import Event, Observe
from app.outbound import DIRECT, Destination, Egress
from app.ports.clock import Clock
from app.runtime import Runtime
from tests.patience import PATIENCE_S

E = TypeVar("E")


@dataclass
class Witness:
    """Records every event, and lets a test wait for one."""

    events: list[Event] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, kind: type[E], number: int = 1) -> E:
        """Wait until `number` events of this kind were recorded; return the last of these."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.of(kind)) < number:
                self._changed.clear()
                await self._changed.wait()
        return found[number - 1]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    missing_bytes: int = 0  # counted in Content-Length; the connection closes before sending them
    hold: asyncio.Event | None = None  # the reply waits until this is set


@dataclass
class Host:
    url: str
    port: int
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def http_host(answer: Callable[[str], Reply]) -> AsyncIterator[Host]:
    """A server that replies to each GET with `answer(target)`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ", 2)[1]
                host.requests.append(target)
                host.heads.append(head)
                reply = answer(target)
                if reply.hold is not None:
                    await reply.hold.wait()
                lines = [f"HTTP/1.1 {reply.status} X", f"content-length: {len(reply.body) + reply.missing_bytes}"]
                lines += [f"{name}: {value}" for name, value in reply.headers]
                writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
                await writer.drain()
                if reply.missing_bytes:
                    break
        await _close(writer)

    async with listening(serve) as port:
        host = Host(f"http://127.0.0.1:{port}", port)
        yield host


@asynccontextmanager
async def proxy(target_port: int) -> AsyncIterator[Host]:
    """An HTTP proxy that connects every host name to `target_port`; `requests` lists its request lines."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.decode().split(" ", 2)
            host.requests.append(f"{method} {target}")
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                far_writer.write(head.replace(target.encode(), path.encode(), 1))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_relay(reader, far_writer))
                tasks.create_task(_relay(far_reader, writer))
        await _close(writer)

    async with listening(serve) as port:
        host = Host(f"http://127.0.0.1:{port}", port)
        yield host


@asynccontextmanager
async def socks_proxy(target_port: int) -> AsyncIterator[Host]:
    """A SOCKS5 proxy that connects every host name to `target_port`; `requests` lists the names it was asked for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            _, count = await reader.readexactly(2)
            await reader.readexactly(count)
            writer.write(b"\x05\x00")
            _, _, _, kind = await reader.readexactly(4)
            assert kind == 3, "names are resolved by the proxy"
            name = await reader.readexactly((await reader.readexactly(1))[0])
            await reader.readexactly(2)
            host.requests.append(name.decode())
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
            writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_relay(reader, far_writer))
                tasks.create_task(_relay(far_reader, writer))
        await _close(writer)

    async with listening(serve) as port:
        host = Host(f"socks5://127.0.0.1:{port}", port)
        yield host


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
) -> AsyncIterator[int]:
    connections: set[asyncio.StreamWriter] = set()
    is_idle = asyncio.Event()
    is_idle.set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        is_idle.clear()
        served = serve(reader, writer)
        assert asyncio.iscoroutine(served)
        await served
        connections.discard(writer)
        if not connections:
            is_idle.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in list(connections):
            writer.close()
        await server.wait_closed()
        async with asyncio.timeout(PATIENCE_S):
            await is_idle.wait()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def runtime(clock: Clock, observe: Observe) -> Runtime:
    """The Runtime of an exchange client, with a fixed seed."""
    return Runtime(clock, observe, 1)


def to(url: str, egress: Egress = DIRECT) -> Destination:
    """The destination of an upstream at `url`."""
    return Destination(url, egress)
