"""The websocket protocol of the node's sockets, as an asyncio protocol under uvicorn.

Outgoing frames are made once for all clients and written to the transport unchanged; incoming bytes are parsed by the
`websockets` library. An ASGI server's own protocols would make every frame again for every client.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from app.access.api_keys import NO_KEY, caller_of
from app.access.key_gate import STATE as KEY_GATE
from app.access.key_gate import KeyGate
from app.domain.reason import Reason
from app.sockets.connections import Connections
from app.sockets.stream_client import POLICY, Client
from app.sockets.stream_commands import Address, parse_target
from app.sockets.streams import SERVICE_RESTART, StreamServer

STATE: Final = "streams"  # key of the StreamServer in the application's lifespan state
MESSAGE_BYTES_MAX: Final = 256 * 1024  # a SUBSCRIBE of 1,024 names has 50 kB
PARTS_MAX: Final = 1_024  # of one message: empty parts do not count against MESSAGE_BYTES_MAX
UNSENT_BYTES_MAX: Final = 64 * 1024  # in the transport's buffer; a client with more counts as slow
KERNEL_BYTES: Final = 256 * 1024  # the kernel's send buffer; by default it holds megabytes for a slow client
GOODBYE_S_SHUTDOWN: Final = 2.0  # for the client's close frame; a shutdown may take ten seconds in all
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009

_log: Final = logging.getLogger("klinenode.streams")
_log.setLevel(logging.CRITICAL)  # protocol errors of clients are answered, not logged


class StreamProtocol(asyncio.Protocol):
    """One websocket connection, from handshake to close; the Wire of its Client."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._connections = cast("set[StreamProtocol]", server_state.connections)
        self._streams: StreamServer | None = app_state.get(STATE)
        self._gate: KeyGate | None = app_state.get(KEY_GATE)
        self._caller = NO_KEY
        self._frames = ServerProtocol(state=State.OPEN, max_size=MESSAGE_BYTES_MAX, logger=_log)
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._address: Address | None = None
        self._parts: list[bytes] = []
        self._goodbye: asyncio.TimerHandle | None = None
        self._goodbye_s = Connections.of(app_state).deadlines.goodbye_s

    # --- the beginning ------------------------------------------------------------------------------------------

    def shake_hands(self, target: str, headers: Iterable[tuple[bytes, bytes]]) -> Response:
        """The answer to a handshake: 101, 404 for an unknown path, or 503 with Retry-After while the server is full.

        With API keys also 401, or 429 with Retry-After; a handshake counts as one request of its key.
        """
        headers = tuple(headers)
        handshake = ServerProtocol(logger=_log)
        address = self._address = parse_target(target)
        named = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
        if address is None:
            response = handshake.reject(404, "Sockets are at /ws and /stream, also under /market, /public, /private.\n")
        elif (denied := self._denial(handshake, headers)) is not None:
            response = denied
        elif self._streams is None or self._streams.is_full:
            response = handshake.reject(503, "This node has as many socket clients as it may have; try again later.\n")
            response.headers["Retry-After"] = "5"
            response.headers["X-Klinenode-Reason"] = Reason.BUSY
        else:
            response = handshake.accept(Request(target, named))
        return response

    def _denial(self, handshake: ServerProtocol, headers: Iterable[tuple[bytes, bytes]]) -> Response | None:
        """The refusal of a handshake that has no valid API key, or whose key has no quota left; else None."""
        if self._gate is None:
            return None
        self._caller = caller_of(headers)
        if (error := self._gate.admit(self._caller)) is None:
            return None
        response = handshake.reject(error.status, error.body().decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response

    def open(self, transport: asyncio.Transport, response: Response) -> None:
        """Send the 101 `response` of a handshake, and subscribe to the streams of its URL."""
        assert self._streams is not None, "who refuses a handshake does not open it"
        assert self._address is not None, "who refuses a handshake does not open it"
        self._transport = transport
        self._connections.add(self)
        transport.write(response.serialize())
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        _limit_kernel(transport)
        if self._gate is not None:
            self._gate.enter(self._caller, self)
        self._client = self._streams.connect(self)
        self._client.begin(self._address)
        self._streams.end_doomed()

    # --- what the transport says ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, and pass messages and pongs to the Client."""
        if self._frames.state is State.CLOSED:
            return
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if isinstance(event, Frame) and self._client is not None and not self._client.is_over:
                self._take(event, self._client)
        self._flush()
        if self._streams is not None:
            self._streams.end_doomed()

    def eof_received(self) -> None:
        """The client closed its sending side: None lets asyncio close the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: free the client's subscriptions."""
        self._connections.discard(self)
        if self._gate is not None:
            self._gate.leave(self._caller, self)
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        if self._client is not None and self._streams is not None:
            self._streams.disconnect(self._client)

    def pause_writing(self) -> None:
        """The transport's buffer exceeds UNSENT_BYTES_MAX: the client's frames wait in its outbox."""
        if self._client is not None:
            self._client.pause()

    def resume_writing(self) -> None:
        """The transport's buffer has drained: send the frames of the client's outbox."""
        if self._client is not None:
            self._client.resume()

    def shutdown(self) -> None:
        """The server shuts down: close with 1012 and hang up after GOODBYE_S_SHUTDOWN."""
        if self._client is not None:
            self._client.end(SERVICE_RESTART, "The node restarts; connect again")
        self._await_goodbye(GOODBYE_S_SHUTDOWN)

    def revoke(self) -> None:
        """The client's API key is no longer known: close with 1008."""
        if self._client is not None:
            self._client.end(POLICY, "This API key is no longer known here")

    # --- what the client has to be told -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send one or more whole frames; never waits."""
        assert self._transport is not None, "opened before"
        self._transport.write(data)

    def ping(self, payload: bytes) -> None:
        """Send a ping frame."""
        self._frames.send_ping(payload)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, and hang up if the client does not answer it within `goodbye_s`."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(code, reason)
            self._flush()
        self._await_goodbye(self._goodbye_s)

    def waiting_bytes(self) -> int:
        """How many bytes are in the transport's buffer."""
        assert self._transport is not None, "opened before"
        return self._transport.get_write_buffer_size()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame, client: Client) -> None:
        if frame.opcode is Opcode.CLOSE:
            client.leave()
            return
        if not client.is_polite():
            return
        if frame.opcode is Opcode.PONG:
            client.ponged()
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if len(self._parts) >= PARTS_MAX:
                client.end(TOO_BIG, f"A message may come in {PARTS_MAX} parts")
                return
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), []
                try:
                    text = message.decode()
                except UnicodeDecodeError:
                    client.end(INVALID_DATA, "Invalid UTF-8")
                    return
                client.hear(text)

    def _flush(self) -> None:
        assert self._transport is not None, "opened before"
        for data in self._frames.data_to_send():
            if data:
                self._transport.write(data)
            else:  # both sides have sent close frames, or the client violated the protocol
                if self._client is not None:
                    self._client.leave()
                self._await_goodbye(self._goodbye_s)
                self._transport.close()

    def _await_goodbye(self, delay_s: float) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._goodbye = asyncio.get_running_loop().call_later(delay_s, self._hang_up)

    def _hang_up(self) -> None:
        self._goodbye = None
        if self._transport is not None:
            self._transport.abort()


def _limit_kernel(transport: asyncio.Transport) -> None:
    held = transport.get_extra_info("socket")
    if held is not None:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
