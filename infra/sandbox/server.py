"""The sandbox's ASGI application, and the servers that run it."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.ports.clock import Clock
from infra.process.clock import SystemClock
from infra.sandbox.archive.app import Archive
from infra.sandbox.control import Control
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, parse_fault
from infra.sandbox.journal import Journal
from infra.sandbox.limits import WEIGHT_LIMIT, WeightLimiter
from infra.sandbox.market import Market
from infra.sandbox.numbers import anchor_hour
from infra.sandbox.options import Options
from infra.sandbox.rest import RestApi
from infra.sandbox.sockets import LIFE_S, SocketServer
from infra.sandbox.universe import Universe
from infra.sandbox.venue_server import SOCKET_PATHS, VenueRest, VenueSockets
from infra.sandbox.venues import Venues

HOST = "127.0.0.1"
SYMBOLS = 50
DEFAULTS = Options()
SHUTDOWN_S = 3
IDLE_S = 75  # between two requests of a connection; assumed of the exchange's servers
CONNECTIONS_MAX = 4_096  # including sockets; one more gets 503
KERNEL_BYTES = 256 * 1024  # kernel buffer for each direction of a connection
KERNEL_S = 60  # for a peer to acknowledge sent data; one that never reads is dropped then
PING_INTERVAL_S = 180.0  # binance-facts section 5.2; transport keep-alive, in real seconds
PONG_TIMEOUT_S = 600.0


@dataclass(slots=True)
class SandboxApp:
    """The whole exchange as one ASGI application."""

    exchange: Exchange
    limiter: WeightLimiter
    faults: FaultBoard
    journal: Journal
    sockets: SocketServer
    control: Control
    venues: Venues
    venue_sockets: VenueSockets
    _http: dict[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route the connection by its type and the first part of its path."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            serve = self.venue_sockets if scope["path"] in SOCKET_PATHS else self.sockets
            await serve(scope, receive, send)
        else:
            app = self._http.get(scope["path"].split("/", 2)[1], _NOT_FOUND)
            await app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(self.sockets.run())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            ticker.cancel()
        await send({"type": "lifespan.shutdown.complete"})


_NOT_FOUND = PlainTextResponse("Not Found", 404)


def create_app(
    clock: Clock,
    *,
    seed: int = 1,
    symbols: int = SYMBOLS,
    weight_limit: int = WEIGHT_LIMIT,
    socket_life_s: float = LIFE_S,
    universe: Universe | None = None,
    options: Options = DEFAULTS,
) -> SandboxApp:
    """An exchange with `symbols` USDT perpetuals and a few other contracts, made from `seed`, with the time of `clock`.

    A given `universe` replaces these symbols.
    """
    market = Market(anchor_hour(clock.now_ms()))
    exchange = Exchange(clock, universe or Universe(seed, symbols), options, market)
    limiter = WeightLimiter(weight_limit, options.data_limit_per_path)
    faults, journal = FaultBoard(), Journal()
    sockets = SocketServer(exchange, faults, journal, socket_life_s)
    venues = Venues(exchange, faults)
    venue_sockets = VenueSockets(venues, journal)
    control = Control(exchange, limiter, faults, journal, sockets, venue_sockets)
    rest = RestApi(exchange, limiter, faults, journal)
    http: dict[str, ASGIApp] = {
        "fapi": rest,
        "futures": rest,
        "data": Archive(exchange, faults, journal),
        "sandbox": control,
        "api": VenueRest(venues, journal),
    }
    return SandboxApp(exchange, limiter, faults, journal, sockets, control, venues, venue_sockets, http)


class _Server(uvicorn.Server):
    """A uvicorn server without signal handlers, and with an event that is set when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin the shutdown at once, not at uvicorn's next tick."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stopping.wait()  # uvicorn's loop only updates the Date header, which is turned off here

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class SandboxServer:
    """A sandbox that runs on a loopback port during an `async with`; port 0 chooses a free one."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 1,
        symbols: int = SYMBOLS,
        weight_limit: int = WEIGHT_LIMIT,
        port: int = 0,
        socket_life_s: float = LIFE_S,
        options: Options = DEFAULTS,
    ) -> None:
        self.app = create_app(
            clock,
            seed=seed,
            symbols=symbols,
            weight_limit=weight_limit,
            socket_life_s=socket_life_s,
            options=options,
        )
        self.exchange = self.app.exchange
        self.faults = self.app.faults
        self.journal = self.app.journal
        self.limiter = self.app.limiter
        self.control = self.app.control
        self.venues = self.app.venues
        self._port = port
        self._stack = contextlib.AsyncExitStack()

    def inject(self, **wish: object) -> int:
        """Activate a fault, with the fields of infra/sandbox/faults.py, and return its number."""
        return self.control.inject(parse_fault(wish))

    @property
    def port(self) -> int:
        """The port that the sandbox listens on."""
        assert self._port, "the sandbox is not running yet"
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL of REST and archive."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The base URL of the sockets."""
        return f"ws://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        listener = bound_listener(self._port)
        self._port = int(listener.getsockname()[1])
        async with serving(self.app, self._port, listener):
            yield


@contextlib.asynccontextmanager
async def serving(app: SandboxApp, port: int, listener: socket.socket | None = None) -> AsyncIterator[None]:
    """Serve `app` on `port` during an `async with`; `listener` is a socket that is already bound to it."""
    server = _Server(_config(app, port))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve([listener] if listener else None))
        listening = tasks.create_task(server.listening.wait())
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        try:
            yield
        finally:
            server.stop()
            await asyncio.wait((serving,))


def run(port: int, seed: int, symbols: int, weight_limit: int = WEIGHT_LIMIT, rate: float | None = None) -> None:
    """Run a sandbox with the machine's clock until SIGINT or SIGTERM. SIGINT stays ignored if it was before.

    The demo ignores it: Ctrl-C reaches both processes, and the node would log warnings if its exchange ended first.
    """
    options = Options(rate=rate)
    app = create_app(SystemClock(), seed=seed, symbols=symbols, weight_limit=weight_limit, options=options)
    try:
        listener = bound_listener(port)
    except OSError as error:
        sys.exit(f"cannot listen on {HOST} port {port}: {error.strerror or error}; choose another with --port")
    server = _Patient if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else uvicorn.Server
    server(_config(app, port)).run([listener])


def bound_listener(port: int) -> socket.socket:
    """A socket bound to `port`; its connections inherit buffer sizes and timeout."""
    # with an explicit protocol asyncio sets TCP_NODELAY (otherwise 40 ms a request)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with contextlib.ExitStack() as unless_bound:
        unless_bound.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KERNEL_S * 1_000)
        listener.bind((HOST, port))
        unless_bound.pop_all()
    return listener


class _Patient(uvicorn.Server):
    """Ignores SIGINT."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)


def _config(app: SandboxApp, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=HOST,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PONG_TIMEOUT_S,
        lifespan="on",
        log_level="warning",
        access_log=False,
        date_header=False,  # uvicorn's has the machine's time; answers have the sandbox's
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=IDLE_S,
        limit_concurrency=CONNECTIONS_MAX,
    )
