"""uvicorn's HTTP protocol with a bound on what a client may send before its request is understood.

httptools gathers request line and headers without any limit of size or time; everything behind it (app/http/intake.py)
sees a request only once its headers have ended.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.http.errors import refusal
from app.http.stream_protocol import StreamProtocol

HEAD_BYTES_MAX: Final = 65_536  # four times what the intake lets through: its answer is the better one
HEAD_S_MAX: Final = 10.0  # from the first byte of a connection or request to the end of its headers


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request begins without end."""

    _head_bytes = 0
    _is_in_head = True
    _overdue: asyncio.TimerHandle | None = None
    _piece = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock: a connection that never asks is closed too."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and count those of a request whose headers have not ended."""
        self._piece = data
        super().data_received(data)
        self._piece = b""
        if not self._is_in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, f"The request line and headers are larger than {HEAD_BYTES_MAX} bytes.")
        elif self._overdue is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The request is understood; from here on others see to it."""
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, its head as it was read: another parser would take less of it."""
        self.connections.discard(self)
        protocol = StreamProtocol(self.config, self.server_state, self.app_state)
        self.transport.set_protocol(protocol)
        protocol.open(self.transport, self.url.decode("latin-1"), self.scope["headers"])

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the shape that the reader of its path expects."""
        self._refuse(400, f"{msg} In a URL, percent-encode what is not ASCII.")

    def _await_head(self) -> None:
        self._overdue = self.loop.call_later(HEAD_S_MAX, self._give_up)

    def _stop_waiting(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        self._overdue = None
        self._refuse(408, f"The request was not complete after {HEAD_S_MAX:.0f} s.")

    def _target(self) -> bytes:
        """What the request that is not understood asks for, as far as can be told."""
        words = self._piece.split(b" ", 2)
        return words[1] if len(words) > 1 else getattr(self, "url", b"")

    def _refuse(self, status: int, text: str) -> None:
        """Answer without a request, and hang up. Behind an answer that is still under way nothing is written."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            response = refusal(self._target().decode("latin-1"), status, text)
            head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
            self.transport.write(STATUS_LINE[status] + head + b"connection: close\r\n\r\n" + bytes(response.body))
        self.transport.close()
