"""Forwards requests to the writer process over a Unix socket in RUNTIME_DIR.

Each request has a connection of its own. Request and response are msgpack behind four bytes of length.
"""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from socket import socket
from typing import Final

import msgspec

from app.ports.coordination import AnswerRequest, RpcRequest, RpcResponse, WriterUnreachable
from infra.local.unix_socket import UnixSocket

ENDING: Final = "line"  # of the socket's name
REQUEST_S_MAX: Final = 25.0  # from the connection to the last byte; the exchange is asked within 20
REQUEST_BYTES_MAX: Final = 256 * 1024  # a request's body is at most 64 kB (app/http/admin.py), its headers 16 kB
RESPONSE_BYTES_MAX: Final = 16 * 1024 * 1024  # a report on every series there is
REQUESTS_MAX: Final = 256  # under way in the writer: as many as one process asks about the market (market_pages.py)
_LENGTH_BYTES: Final = 4


class LocalWriterRpc:
    """Both sides for the processes of one database. See WriterRpcServer and WriterRpcClient."""

    def __init__(self, database: Path) -> None:
        self._socket = UnixSocket(database, ENDING)
        self._server: asyncio.Server | None = None
        self._under_way = 0

    async def open(self, answer: AnswerRequest) -> None:
        """Listen on the socket and answer each request by `answer`. Raises OSError."""

        def serve(listener: socket) -> Awaitable[asyncio.Server]:
            return asyncio.start_unix_server(lambda reader, writer: self._serve(reader, writer, answer), sock=listener)

        self._server = await self._socket.listen(serve)

    async def close(self) -> None:
        """Stop listening and delete the socket; requests under way are still answered."""
        if self._server is not None:
            server, self._server = self._server, None
            self._socket.remove()
            server.close()

    async def ask(self, request: RpcRequest) -> RpcResponse:
        """Send a request to the writer and return its response. Raises WriterUnreachable."""
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                with self._socket.found() as path:
                    reader, writer = await asyncio.open_unix_connection(path)
                try:
                    await _send(writer, msgspec.msgpack.encode(request))
                    return msgspec.msgpack.decode(await _receive(reader, RESPONSE_BYTES_MAX), type=RpcResponse)
                finally:
                    writer.transport.abort()  # what was not received by now is not needed
        except (OSError, EOFError, TimeoutError, NotImplementedError, msgspec.DecodeError) as error:
            raise WriterUnreachable(
                f"the process that writes does not answer: {error!r}; ask again in a few seconds"
            ) from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: AnswerRequest) -> None:
        if self._under_way >= REQUESTS_MAX:
            writer.close()
            return
        self._under_way += 1
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                request = msgspec.msgpack.decode(await _receive(reader, REQUEST_BYTES_MAX), type=RpcRequest)
                await _send(writer, msgspec.msgpack.encode(await answer(request)))
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError):
            return  # the process that asked has disconnected, or notices that the connection ends
        finally:
            self._under_way -= 1
            writer.transport.abort()  # `_send` has waited until the kernel had everything


async def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    """Return once the kernel has the whole message: closing would wait for ever for a peer that does not read."""
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > bytes_max:
        raise EOFError(f"{length} bytes are announced, {bytes_max} are the most allowed")
    return await reader.readexactly(length)
