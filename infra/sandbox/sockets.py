"""The sockets of the sandbox, as described in binance-facts sections 5.1 to 5.3."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope, Send

from app.ports.clock import Clock
from infra.sandbox.commands import Command, CommandError, RequestId, parse_command
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import BEFALLING_KINDS, Fault, FaultBoard, Target
from infra.sandbox.feeds import FeedHub
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.journal import Journal
from infra.sandbox.rest import abort_transport, stop_reading
from infra.sandbox.stream_names import PUBLIC, route_of

STREAMS_MAX = 1_024
MESSAGES_A_SECOND_MAX = 10
LIFE_S = 24 * 3600
OUTBOX_MAX = 8_192  # frames queued for a slow client before it is disconnected
ROUTES = frozenset({"market", "public", "private"})
LEGACY_ROUTE = PUBLIC  # URLs without a route deliver only its streams; others are acknowledged and silent
DETAIL_MAX = 8_192  # characters of a control message in the journal
HALF_OPEN_MS = 600_000  # the exchange drops a client without a pong for ten minutes (binance-facts section 5.2)
_ABNORMAL = 1011
_SERVICE_RESTART = 1012
_LAG_SHARE = 2  # the delay of a slow socket grows by one second in so many, up to the fault's `delay_s`


@dataclass(frozen=True, slots=True)
class Address:
    """A socket's URL: route ("": legacy), whether events are wrapped (combined), and the initial streams."""

    route: str
    combined: bool
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str


def parse_address(path: str, query: str) -> Address | None:
    """Parse a URL; None if the path is not a socket's."""
    parts = path.strip("/").split("/")
    route = parts.pop(0) if parts[0] in ROUTES else ""
    if not parts or parts[0] not in {"ws", "stream"}:
        return None
    names = parts[1:]
    if parts[0] == "stream":
        names = parse_qs(query).get("streams", [""])[0].split("/")
    return Address(route, parts[0] == "stream", tuple(name for name in names if name))


class Connection:
    """One open socket, with its streams and its bounded outbox."""

    def __init__(
        self, hub: FeedHub, address: Address, path: str, send: Send, clock: Clock, *, delivers: bool = True
    ) -> None:
        self.path, self.opened_ms = path, clock.now_ms()
        self.ends_ms: int | None = None
        self.suffers: dict[str, tuple[int, Fault]] = {}
        """By kind: the fault that hit this socket, and when."""
        self.streams: dict[str, None] = {}
        self.combined = address.combined
        self._clock = clock
        self._route = (address.route or LEGACY_ROUTE) if delivers else ""
        self._hub = hub
        self._send = send
        self._outbox: asyncio.Queue[tuple[int, str | _Close]] = asyncio.Queue(OUTBOX_MAX)
        self._heard: deque[int] = deque(maxlen=MESSAGES_A_SECOND_MAX + 1)
        self._ending = False

    def deliver(self, stream: str, event: str) -> None:
        """Queue an event; a client whose outbox is full is disconnected."""
        self._put(f'{{"stream":"{stream}","data":{event}}}' if self.combined else event)

    def befall(self, fault: Fault) -> None:
        """Apply `fault` from now on."""
        now_ms = self._clock.now_ms()
        self.suffers[fault.kind] = (now_ms, fault)
        match fault.kind:
            case "cut":
                self.abort()
            case "half_open":
                self.ends_ms = now_ms + HALF_OPEN_MS
                stop_reading(self._send)
            case "server_shutdown" | "rotation":
                self.ends_ms = now_ms + int(fault.delay_s * SECOND_MS)
                self._put(f'{{"event":{{"e":"serverShutdown","E":{now_ms}}}}}')

    def end(self) -> None:
        """Close as its fault demands: with a close frame, or without."""
        if "half_open" in self.suffers:
            self.abort()
        else:
            self.close(_SERVICE_RESTART, "service restart")

    def close(self, code: int, reason: str) -> None:
        """Close after the queued frames."""
        if not self._ending:
            self._put(_Close(code, reason))
        self._ending = True

    def abort(self) -> None:
        """Drop the TCP connection without a close frame."""
        if not abort_transport(self._send):
            self.close(_ABNORMAL, "cut")

    async def talk(self, receive: Receive, first: Iterable[str]) -> None:
        """Serve the socket until the client or the sandbox ends it."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write())
            await self.subscribe(first)
            while (message := await receive())["type"] == "websocket.receive":
                if not self._polite(self._clock.now_ms()):
                    self.close(1008, "Too many requests")
                elif not self._ending:
                    text = message.get("text")
                    await self._obey(text if text is not None else message["bytes"].decode("utf-8", "replace"))
            writer.cancel()

    async def subscribe(self, names: Iterable[str], command: Command | None = None) -> None:
        """Add streams; `command` is acknowledged before their first frame. Too many streams end the connection."""
        added = [name for name in dict.fromkeys(names) if name not in self.streams]
        heard = [name for name in added if self._route and route_of(name) == self._route]
        if heard:
            await self._hub.prepare(heard)
        if command is not None:
            self._answer(None, command.request_id)
        if len(self.streams) + len(added) > STREAMS_MAX:
            self._put('{"error":{"code":4,"msg":"Too many subscriptions"}}')
            self.close(1008, "Invalid request")
            return
        self.streams.update(dict.fromkeys(added))
        self._hub.subscribe(self, heard)

    def leave(self) -> None:
        """Unsubscribe the connection from all feeds."""
        self._hub.unsubscribe(self, self.streams)

    async def _obey(self, text: str) -> None:
        try:
            command = parse_command(text)
        except CommandError as error:
            body: dict[str, object] = {"error": {"code": error.code, "msg": error.msg}}
            if error.request_id is not None:
                body["id"] = error.request_id
            self._put(orjson.dumps(body).decode())
            return
        await self._execute(command)

    async def _execute(self, command: Command) -> None:
        fault = self._hub.refusal(Target(path=self.path, streams=command.streams), self._clock.now_ms())
        if fault is not None:
            error = {"code": fault.code or 1, "msg": "The sandbox was told to refuse this."}
            self._put(orjson.dumps({"error": error, "id": command.request_id}).decode())
            return
        match command.method:
            case "SUBSCRIBE":
                await self.subscribe(command.streams, command)
            case "UNSUBSCRIBE":
                for name in command.streams:
                    self.streams.pop(name, None)
                self._hub.unsubscribe(self, command.streams)
                self._answer(None, command.request_id)
            case "LIST_SUBSCRIPTIONS":
                self._answer(list(self.streams), command.request_id)
            case "SET_PROPERTY":
                self.combined = command.value
                self._answer(None, command.request_id)
            case _:
                self._answer(self.combined, command.request_id)

    def _answer(self, result: object, request_id: RequestId) -> None:
        self._put(orjson.dumps({"result": result, "id": request_id}).decode())

    def _polite(self, now_ms: int) -> bool:
        self._heard.append(now_ms)
        return len(self._heard) <= MESSAGES_A_SECOND_MAX or now_ms - self._heard[0] >= SECOND_MS

    def _put(self, item: str | _Close) -> None:
        if "half_open" in self.suffers:
            return
        now_ms = self._clock.now_ms()
        slow_ms, slow = self.suffers.get("slow_socket", (now_ms, None))
        lag_ms = min(int(slow.delay_s * SECOND_MS), (now_ms - slow_ms) // _LAG_SHARE) if slow else 0
        try:
            self._outbox.put_nowait((now_ms + lag_ms, item))
        except asyncio.QueueFull:
            abort_transport(self._send)

    async def _write(self) -> None:
        try:
            while True:
                due_ms, item = await self._outbox.get()
                while (early_ms := due_ms - self._clock.now_ms()) > 0:
                    await self._clock.sleep(early_ms / SECOND_MS)
                if isinstance(item, _Close):
                    await self._send({"type": "websocket.close", "code": item.code, "reason": item.reason})
                    return
                await self._send({"type": "websocket.send", "text": item})
        except OSError:
            return  # the client disconnected, which the reader sees too


class SocketServer:
    """The ASGI application for sockets, and the task that sends frames and ends old sockets."""

    def __init__(self, exchange: Exchange, faults: FaultBoard, journal: Journal, life_s: float = LIFE_S) -> None:
        self.hub = FeedHub(exchange, faults)
        self.connections: dict[Connection, None] = {}  # ordered, so that faults hit the same sockets in every run
        self._exchange = exchange
        self._faults = faults
        self._journal = journal
        self._life_ms = int(life_s * SECOND_MS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from its handshake to its end."""
        path, query = str(scope["path"]), scope["query_string"].decode("ascii", "replace")
        address, now_ms = parse_address(path, query), self._exchange.clock.now_ms()
        await receive()
        if address is None:
            await reject(send, 404)
            return
        target = Target(path=path, streams=address.streams)
        if self._faults.take("handshake_hang", target, now_ms) is not None:
            self._journal.write(now_ms, "connect", path, status=0)
            await receive()  # until the client disconnects
            return
        refusal = self._faults.take("refuse", target, now_ms)
        streams = {"streams": "/".join(address.streams)}
        self._journal.write(now_ms, "connect", path, query=streams, status=403 if refusal else 101)
        if refusal is not None:
            await _refuse(send, refusal)
            return
        await send({"type": "websocket.accept"})
        delivers = self._faults.take("wrong_route", target, now_ms) is None
        connection = Connection(self.hub, address, path, send, self._exchange.clock, delivers=delivers)
        self.connections[connection] = None
        try:
            await connection.talk(self._listen(connection, receive), address.streams)
        finally:
            self.connections.pop(connection, None)
            connection.leave()

    async def run(self) -> None:
        """Tick every 250 ms of the clock, and every 100 ms while a subscribed stream needs it, for ever."""
        clock = self._exchange.clock
        while True:
            now_ms = clock.now_ms()
            self.befall(now_ms)
            self._expire(now_ms)
            self.hub.tick(now_ms)
            await clock.sleep(self.hub.wait_ms(clock.now_ms()) / SECOND_MS)

    def befall(self, now_ms: int) -> None:
        """Apply active faults to the matching open sockets, each kind at most once to a socket."""
        if not self._faults.any_of(BEFALLING_KINDS):
            return
        for connection in tuple(self.connections):
            target = Target(path=connection.path, streams=tuple(connection.streams))
            for kind in sorted(BEFALLING_KINDS - connection.suffers.keys()):
                if (fault := self._faults.take(kind, target, now_ms)) is not None:
                    connection.befall(fault)

    def _expire(self, now_ms: int) -> None:
        for connection in tuple(self.connections):
            if now_ms - connection.opened_ms >= self._life_ms:
                connection.close(1001, "going away")
            if connection.ends_ms is not None and now_ms >= connection.ends_ms:
                connection.end()

    def _listen(self, connection: Connection, receive: Receive) -> Receive:
        """`receive` that also writes every message to the journal."""

        async def listen() -> dict[str, object]:
            message = dict(await receive())
            if message["type"] == "websocket.receive":
                self._journal.write(
                    self._exchange.clock.now_ms(),
                    "message",
                    connection.path,
                    detail=str(message.get("text"))[:DETAIL_MAX],
                )
            return message

        return listen


async def reject(send: Send, status: int) -> None:
    """Refuse a handshake with an HTTP status."""
    await send({"type": "websocket.http.response.start", "status": status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b""})


async def _refuse(send: Send, fault: Fault) -> None:
    """Answer the handshake with the fault's status, or drop the connection if it is 0."""
    if fault.status == 0:
        abort_transport(send)
    await reject(send, fault.status or 403)
