"""The sandbox as a server: one ASGI application over REST, sockets and archive, and ways to run it."""

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
from infra.sandbox.archive import Archive
from infra.sandbox.control import Control
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, parse_fault
from infra.sandbox.journal import Journal
from infra.sandbox.limits import WEIGHT_LIMIT, WeightLimiter
from infra.sandbox.rest import RestApi
from infra.sandbox.sockets import LIFE_S, SocketServer
from infra.sandbox.universe import Universe

HOST = "127.0.0.1"
SYMBOLS = 50
SHUTDOWN_S = 3
IDLE_S = 75  # between two requests of a connection, as the exchange's servers are assumed to wait
CONNECTIONS_MAX = 4_096  # sockets among them; one more gets 503
KERNEL_BYTES = 256 * 1024  # asked of the kernel for each direction of a connection
KERNEL_S = 60  # for a peer to acknowledge what the kernel holds: one that never reads is dropped then
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
    _http: dict[str, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the connection to its part of the exchange."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self.sockets(scope, receive, send)
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
) -> SandboxApp:
    """An exchange with `symbols` USDT perpetuals (and a few strays) grown from `seed`, living by `clock`.

    A `universe` that is handed in takes the place of those.
    """
    exchange = Exchange(clock, universe or Universe(seed, symbols))
    limiter, faults, journal = WeightLimiter(weight_limit), FaultBoard(), Journal()
    sockets = SocketServer(exchange, faults, journal, socket_life_s)
    control = Control(exchange, limiter, faults, journal, sockets)
    rest = RestApi(exchange, limiter, faults, journal)
    http: dict[str, ASGIApp] = {
        "fapi": rest,
        "futures": rest,
        "data": Archive(exchange, faults, journal),
        "sandbox": control,
    }
    return SandboxApp(exchange, limiter, faults, journal, sockets, control, http)


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals to whoever runs the event loop, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin the shutdown now, not at uvicorn's next tick."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stopping.wait()  # uvicorn's tick ten times a second keeps a Date header, which is off here

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class SandboxServer:
    """A sandbox on a loopback port for the length of an `async with`; port 0 takes a free one."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 1,
        symbols: int = SYMBOLS,
        weight_limit: int = WEIGHT_LIMIT,
        port: int = 0,
        socket_life_s: float = LIFE_S,
    ) -> None:
        self.app = create_app(clock, seed=seed, symbols=symbols, weight_limit=weight_limit, socket_life_s=socket_life_s)
        self.exchange = self.app.exchange
        self.faults = self.app.faults
        self.journal = self.app.journal
        self.limiter = self.app.limiter
        self.control = self.app.control
        self._port = port
        self._stack = contextlib.AsyncExitStack()

    def inject(self, **wish: object) -> int:
        """Put a fault to work, fields as in infra/sandbox/faults.py; returns its number."""
        return self.control.inject(parse_fault(wish))

    @property
    def port(self) -> int:
        """The port that the sandbox listens on."""
        assert self._port, "the sandbox is not running yet"
        return self._port

    @property
    def base_url(self) -> str:
        """Where REST and archive are."""
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where the sockets are."""
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
    """Serve `app` on `port`, through `listener` if it is bound already, for the length of an `async with`."""
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


def run(port: int, seed: int, symbols: int, weight_limit: int = WEIGHT_LIMIT) -> None:
    """Run a sandbox by the machine's clock until SIGINT or SIGTERM; a SIGINT that is ignored from the start stays so.

    The demo has it ignored: Ctrl-C reaches both, and a node whose exchange ends first warns of it.
    """
    app = create_app(SystemClock(), seed=seed, symbols=symbols, weight_limit=weight_limit)
    try:
        listener = bound_listener(port)
    except OSError as error:
        sys.exit(f"cannot listen on {HOST} port {port}: {error.strerror or error}; choose another with --port")
    server = _Patient if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else uvicorn.Server
    server(_config(app, port)).run([listener])


def bound_listener(port: int) -> socket.socket:
    """A socket bound to `port`, whose connections inherit what bounds them."""
    # the protocol is named so that asyncio turns Nagle's delay off (40 ms a request otherwise)
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
    """Leaves Ctrl-C to whoever started it."""

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
        date_header=False,  # uvicorn's would tell the machine's time; the API's answers tell the sandbox's
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=IDLE_S,
        limit_concurrency=CONNECTIONS_MAX,
    )
