"""A websocket handshake over a connection that we dial ourselves, so that proxies and certificates are as for REST."""

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from app.outbound import Egress
from app.ports.clock import Clock
from infra.binance.dial import dial
from infra.binance.tls import trusting


class Connect(connect):
    """websockets' `connect` with our way to the host. Redirects are followed as the library does."""

    def __init__(self, url: str, egress: Egress, clock: Clock, **options: Any) -> None:
        super().__init__(url, proxy=None, **options)
        self._egress = egress
        self._clock = clock

    async def open_tcp_connection(self) -> ClientConnection:
        """What the library calls for each attempt; the result's transport is connected to the host."""
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
        if transport.is_closing():  # its end was reported to the protocol before
            raise ConnectionResetError("the connection was closed before the handshake")
        if uri.secure:
            loop = asyncio.get_running_loop()
            context = trusting(self._egress)
            secured = await loop.start_tls(transport, connection, context, server_hostname=uri.host)
            assert secured is not None, "start_tls of an open connection returns a transport"
            transport = secured
        connection.connection_made(transport)
        return connection
