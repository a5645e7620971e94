"""WebSocket connections with the same proxies and certificates as HTTP, opened within bounded time."""

import asyncio
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from app.outbound import Destination, Egress
from app.ports.clock import Clock
from infra.net.dial import dial
from infra.net.http import USER_AGENT
from infra.net.tls import trusting
from infra.net.websocket_messages import MessageConnection

OPEN_S_MAX: Final = 20.0  # for TCP, TLS and handshake; a half-open peer accepts and never answers
CLOSE_S_MAX: Final = 2.0  # for the peer's close frame
FAILURES: Final = (WebSocketException, OSError, EOFError)
"""What opening a connection, sending and `messages` raise when the peer or the network fails."""


class NoHandshake(OSError):
    """The connection was not open within OPEN_S_MAX; the message is the whole reason."""


async def open_websocket(at: Destination, clock: Clock, *, message_bytes_max: int) -> MessageConnection:
    """Connect within OPEN_S_MAX of the clock; a longer message than `message_bytes_max` ends the connection.

    Leave the connection by `async with`, and abort its transport when nobody should wait for the close frame. The
    library's own pings and timeouts, which would use the machine's clock, are off: a pong proves no more than frames
    do, and one that waits behind frames held back by a full intake would end a good connection. Raises FAILURES.
    """
    opening = Connect(
        at.url,
        at.egress,
        clock,
        compression=None,
        user_agent_header=USER_AGENT,
        open_timeout=None,
        close_timeout=CLOSE_S_MAX,
        ping_interval=None,
        max_size=message_bytes_max,
    )
    connection: MessageConnection | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            limit = tasks.create_task(_give_up(clock))
            connection = await opening.open()
            limit.cancel()
    except BaseException as error:
        if connection is not None:  # connected and timed out at the same moment
            connection.transport.abort()
        if isinstance(error, BaseExceptionGroup):
            first = error.exceptions[0]  # it is the reason; the other task was cancelled because of it
            raise first from first.__cause__
        raise
    return connection


async def _give_up(clock: Clock) -> None:
    await clock.sleep(OPEN_S_MAX)
    raise NoHandshake(f"no handshake within {OPEN_S_MAX:.0f} s")


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
