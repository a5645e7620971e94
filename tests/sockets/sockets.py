"""A real socket server on loopback whose streams a test feeds, and clients that connect to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect

from app.access.key_gate import STATE as KEY_GATE
from app.access.key_gate import KeyGate
from app.market.stream_hub import Hub
from app.sockets.stream_client import Client
from app.sockets.stream_protocol import STATE
from app.sockets.streams import StreamLimits, StreamServer
from tests.clocks import START_MS, VirtualClock
from tests.fakes import FakeListed
from tests.http.fakes import served
from tests.patience import PATIENCE_S


class Watched(StreamServer):
    """A server that sets `gone` when a client has disconnected."""

    gone = asyncio.Event()

    def disconnect(self, client: Client) -> None:
        super().disconnect(client)
        self.gone.set()


@dataclass
class Exchange:
    """The exchange's streams behind the server; the test sends the events."""

    clock: VirtualClock
    hub: Hub
    server: Watched
    listed: FakeListed
    port: int = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def send(self, stream: str, **event: object) -> bytes:
        payload = json.dumps({"s": stream, **event}, separators=(",", ":")).encode()
        self.hub.deliver(stream, payload)
        return payload

    async def until_clients(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.server.clients) != number:
                self.server.gone.clear()
                await self.server.gone.wait()


def app_of(server: StreamServer, gate: KeyGate | None = None) -> ASGIApp:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
        yield {STATE: server, KEY_GATE: gate}

    return Starlette(lifespan=lifespan)


@asynccontextmanager
async def exchange(
    *,
    clients_max: int = 100,
    queue_bytes_max: int = 256 * 1024,
    streams_max: int = 5_000,
    gate: KeyGate | None = None,
) -> AsyncIterator[Exchange]:
    Watched.gone = asyncio.Event()  # belongs to this event loop
    clock = VirtualClock(START_MS)
    hub = Hub(clock, streams_max=streams_max)
    listed = FakeListed()
    server = Watched(hub, clock, StreamLimits(clients_max, queue_bytes_max), listed, lambda stream: None)
    made = Exchange(clock, hub, server, listed)
    async with served(app_of(server, gate), lifespan="on") as port:
        made.port = port
        yield made


@asynccontextmanager
async def client(made: Exchange, path: str) -> AsyncIterator[ClientConnection]:
    async with connect(made.url + path, proxy=None, ping_interval=None) as connection:
        yield connection


async def said(connection: ClientConnection) -> object:
    """The next message, decoded from JSON."""
    async with asyncio.timeout(PATIENCE_S):
        return json.loads(await connection.recv())


async def ask(connection: ClientConnection, method: str, params: object = None, request_id: object = 1) -> object:
    message: dict[str, object] = {"method": method, "id": request_id}
    if params is not None:
        message["params"] = params
    await connection.send(json.dumps(message))
    return await said(connection)
