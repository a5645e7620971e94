"""The ASGI applications of OKX and Deribit: requests and sockets for what infra/sandbox/venues.py answers."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox.deribit.peer import PATH as DERIBIT_PATH
from infra.sandbox.faults import Fault, Target
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.journal import Journal
from infra.sandbox.okx.peer import PATHS as OKX_PATHS
from infra.sandbox.peers import CUT, Peer
from infra.sandbox.rest import abort_transport
from infra.sandbox.sockets import DETAIL_MAX, reject
from infra.sandbox.venues import Venues

TICK_MS = 100  # how often frames are sent
BODY_BYTES_MAX = 64 * 1024
_WAIT_MS_MAX = 600_000  # a request of a slow server is answered within ten minutes
SOCKET_PATHS = frozenset({*OKX_PATHS, DERIBIT_PATH})


@dataclass(slots=True)
class VenueRest:
    """The ASGI application under /api."""

    venues: Venues
    journal: Journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, clock = Request(scope, receive), self.venues.exchange.clock
        path, query = request.scope["path"], dict(request.query_params)
        venue = self.venues.venue_of(path)
        if venue is None:
            await Response(b"", 404)(scope, receive, send)
            return
        symbol = query.get("instId") or query.get("instrument_name", "")
        target = Target(symbol=symbol, path=path, venue=venue.name)
        slow = venue.faults.take("slow", target, clock.now_ms())
        if slow is not None:
            await clock.sleep(min(slow.delay_s, _WAIT_MS_MAX / SECOND_MS))
        ip = request.client.host if request.client else ""
        now_ms = clock.now_ms()
        if request.method == "POST" and venue is self.venues.deribit:
            answer = self.venues.deribit_rest.post((await request.body())[:BODY_BYTES_MAX], now_ms, ip)
        else:
            await asyncio.to_thread(venue.warm, symbol, now_ms)
            answer = self.venues.answer(path, query, now_ms, ip)
        self.journal.write(now_ms, "rest", path, query=query, status=answer.status)
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)


@dataclass(slots=True)
class VenueSockets:
    """The ASGI application of the sockets at SOCKET_PATHS."""

    venues: Venues
    journal: Journal
    frames_sent: int = 0
    _changed: dict[Peer, asyncio.Event] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from its handshake to its end."""
        path, now_ms = str(scope["path"]), self.venues.exchange.clock.now_ms()
        venue = self.venues.venue_of(path)
        assert venue is not None, f"{path} belongs to a venue"
        await receive()
        target = Target(path=path, venue=venue.name)
        if venue.faults.take("handshake_hang", target, now_ms) is not None:
            self.journal.write(now_ms, "connect", path, status=0)
            await receive()  # until the client disconnects
            return
        refusal = venue.faults.take("refuse", target, now_ms)
        self.journal.write(now_ms, "connect", path, status=403 if refusal else 101)
        if refusal is not None:
            await _refuse(send, refusal)
            return
        await send({"type": "websocket.accept"})
        peer = self.venues.connect(path, now_ms)
        self._changed[peer] = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(peer, receive, send))
                writer = tasks.create_task(self._write(peer, send))
                await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
                reader.cancel()
                writer.cancel()
        finally:
            peer.close(CUT, "disconnected")
            self.venues.peers.pop(peer, None)
            self._changed.pop(peer, None)

    def wake(self) -> None:
        """Let sockets that a fault has ended see it at once."""
        for peer, changed in self._changed.items():
            if peer.is_closed:
                changed.set()

    async def _read(self, peer: Peer, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            text = text if text is not None else message["bytes"].decode("utf-8", "replace")
            now_ms = self.venues.exchange.clock.now_ms()
            self.journal.write(now_ms, "message", peer.path, detail=text[:DETAIL_MAX])
            if not await self._send(send, peer.receive(text, now_ms)):
                return
            if peer.is_closed:
                self._changed[peer].set()

    async def _write(self, peer: Peer, send: Send) -> None:
        clock, changed = self.venues.exchange.clock, self._changed[peer]
        async with asyncio.TaskGroup() as tasks:
            while True:
                now_ms = clock.now_ms()
                if not await self._send(send, peer.push(now_ms)):
                    return
                if peer.is_closed:
                    break
                early_ms = (now_ms // TICK_MS + 1) * TICK_MS - clock.now_ms()
                if early_ms <= 0:
                    continue  # sending took longer than a tick
                tick = tasks.create_task(clock.sleep(early_ms / SECOND_MS))
                woken = tasks.create_task(changed.wait())
                await asyncio.wait((tick, woken), return_when=asyncio.FIRST_COMPLETED)
                tick.cancel()
                woken.cancel()
        if peer.close_code == CUT and abort_transport(send):
            return
        code = peer.close_code if peer.close_code != CUT else 1011
        await self._end(send, code, peer.close_reason)

    async def _send(self, send: Send, frames: list[str]) -> bool:
        """Send frames; false if the client has disconnected."""
        try:
            for frame in frames:
                await send({"type": "websocket.send", "text": frame})
        except OSError:
            return False
        self.frames_sent += len(frames)
        return True

    async def _end(self, send: Send, code: int, reason: str) -> None:
        try:
            await send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            return  # the client has disconnected meanwhile


async def _refuse(send: Send, fault: Fault) -> None:
    if fault.status == 0:
        abort_transport(send)
    await reject(send, fault.status or 403)
