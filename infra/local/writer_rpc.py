"""The line to the writer: a Unix socket in RUNTIME_DIR, on which it answers what other processes are asked."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from socket import socket
from typing import Final

import msgspec

from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from infra.local.unix_socket import UnixSocket

ASK_S_MAX: Final = 25.0  # the longest a request may take: the exchange is asked within 20
ASKED_BYTES_MAX: Final = 256 * 1024  # a request's body is at most 64 kB (app/http/admin.py), its headers 16 kB
TOLD_BYTES_MAX: Final = 16 * 1024 * 1024  # a report on every series there is
AT_ONCE_MAX: Final = 256  # requests under way on a line: as many as one process asks about the market (market_pages.py)
_LENGTH_BYTES: Final = 4

Answer = Callable[[RpcRequest], Awaitable[RpcResponse]]
"""What the writer does with a request."""


class WriterRpc:
    """Both ends of the line of one database: the writer answers on it, everybody else asks."""

    def __init__(self, database: Path) -> None:
        self._socket = UnixSocket(database, "line")
        self._server: asyncio.Server | None = None
        self._under_way = 0

    async def open(self, answer: Answer) -> None:
        """Answer on the line from now on; only the holder of the lease may. Raises OSError."""

        def serve(listener: socket) -> Awaitable[asyncio.Server]:
            return asyncio.start_unix_server(lambda reader, writer: self._serve(reader, writer, answer), sock=listener)

        self._server = await self._socket.listen(serve)

    async def close(self) -> None:
        """Answer no more; nothing happens when the line is not open."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            self._socket.remove()

    async def ask(self, asked: RpcRequest) -> RpcResponse:
        """What the writer says. Raises LineDown."""
        try:
            async with asyncio.timeout(ASK_S_MAX):
                with self._socket.found() as path:
                    reader, writer = await asyncio.open_unix_connection(path)
                try:
                    await _send(writer, msgspec.msgpack.encode(asked))
                    return msgspec.msgpack.decode(await _receive(reader, TOLD_BYTES_MAX), type=RpcResponse)
                finally:
                    writer.transport.abort()  # nothing more is of use; what was not taken by now never will be
        except (OSError, EOFError, TimeoutError, NotImplementedError, msgspec.DecodeError) as error:
            raise WriterUnreachable(
                f"the process that writes does not answer: {error!r}; ask again in a few seconds"
            ) from error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        if self._under_way >= AT_ONCE_MAX:
            writer.close()
            return
        self._under_way += 1
        try:
            async with asyncio.timeout(ASK_S_MAX):
                asked = msgspec.msgpack.decode(await _receive(reader, ASKED_BYTES_MAX), type=RpcRequest)
                await _send(writer, msgspec.msgpack.encode(await answer(asked)))
        except (OSError, EOFError, TimeoutError, msgspec.DecodeError):
            return  # the one who asked has gone, or will hear of it by the end of the connection
        finally:
            self._under_way -= 1
            writer.transport.abort()  # `_send` has waited until all of it had left


async def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    """Return once the kernel has all of it: closing would wait without end for who does not read."""
    writer.transport.set_write_buffer_limits(high=0)
    writer.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > bytes_max:
        raise EOFError(f"{length} bytes are announced, {bytes_max} are the most allowed")
    return await reader.readexactly(length)
