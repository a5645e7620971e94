"""Connections of the nodes on other hosts, which come as HTTP requests and go on in another language."""

import asyncio
from typing import Any, Final

from app.ports.coordination import Admission

STATE: Final = "lines"  # key of the Lines in the application's lifespan state
PREFIX: Final = b"klinenode-"  # of the Upgrade header; the name of the service follows
PATH: Final = b"/v1/lines"
_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"


class Visit(asyncio.Protocol):
    """One such connection, for the server that has to close it when it ends."""

    def __init__(self, admission: Admission, connections: set[Any]) -> None:
        self._admission = admission
        self._inner = admission.protocol
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def open(self, transport: asyncio.Transport, upgrade: bytes) -> None:
        """Send the 101 answer, and let the service speak."""
        self._transport = transport
        self._connections.add(self)
        transport.write(_SWITCHING % upgrade)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the service."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The other node has closed its sending side."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._connections.discard(self)
        self._admission.left()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The transport's buffer has drained."""
        self._inner.resume_writing()

    def shutdown(self) -> None:
        """The server shuts down."""
        if self._transport is not None:
            self._transport.close()
