"""WebSocket connections with the same proxies and certificates as REST."""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from app.outbound import Egress
from app.ports.clock import Clock
from infra.net.dial import dial
from infra.net.tls import trusting
from infra.net.websocket_messages import MessageConnection


class Connect(connect):
    """websockets' `connect`, which uses `dial` and `trusting`. Redirects are followed as in the library."""

    def __init__(self, url: str, egress: Egress, clock: Clock, **options: Any) -> None:
        super().__init__(url, proxy=None, create_connection=MessageConnection, **options)
        self._egress = egress
        self._clock = clock

    async def open(self) -> MessageConnection:
        """Connect. Raises OSError and WebSocketException."""
        connection = await self
        assert isinstance(connection, MessageConnection), "that is what `create_connection` makes"
        return connection

    async def open_tcp_connection(self) -> ClientConnection:
        """Override of the library's method for one connection attempt. Raises OSError."""
        uri = self.ws_uri
        transport = await dial(self._egress, uri.host, uri.port, self._clock)
        try:
            return await self._begin(transport)
        except BaseException:
            transport.abort()
            raise

    async def _begin(self, transport: asyncio.Transport) -> ClientConnection:
        uri = self.ws_uri
        connection = self.factory(uri)
        transport.set_protocol(connection)
        if transport.is_closing():  # `connection_lost` was called on the previous protocol
            raise ConnectionResetError("the connection was closed before the handshake")
        if uri.secure:
            loop = asyncio.get_running_loop()
            context = trusting(self._egress)
            secured = await loop.start_tls(transport, connection, context, server_hostname=uri.host)
            assert secured is not None, "start_tls of an open connection returns a transport"
            transport = secured
        connection.connection_made(transport)
        return connection
