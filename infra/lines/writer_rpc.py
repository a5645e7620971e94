"""Forwards requests to the writer process over a line.

Each request has a connection of its own. Request and response are msgpack behind four bytes of length.
"""

import asyncio
from typing import Final, cast

import msgspec

from app.ports.coordination import AnswerRequest, RpcRequest, RpcResponse, WriterUnreachable
from infra.lines.line import Line

ENDING: Final = "line"  # of the name of a line that is a file
REQUEST_S_MAX: Final = 25.0  # from the connection to the last byte; the exchange is asked within 20
REQUEST_BYTES_MAX: Final = 256 * 1024  # a request's body is at most 64 kB (app/http/admin.py), its headers 16 kB
RESPONSE_BYTES_MAX: Final = 16 * 1024 * 1024  # a report on every series there is
REQUESTS_MAX: Final = 256  # under way in the writer: as many as one process asks about the market (market_pages.py)
_LENGTH_BYTES: Final = 4


class _Asking(asyncio.StreamReaderProtocol):
    """The end of a connection in the process that asks."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by name


class LineWriterRpc:
    """Both sides for the processes that share a line. See WriterRpcServer and WriterRpcClient."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._under_way = 0

    async def open(self, answer: AnswerRequest) -> None:
        """Serve the line, and answer each request by `answer`. Raises OSError."""

        def made() -> asyncio.Protocol:
            return asyncio.StreamReaderProtocol(
                asyncio.StreamReader(), lambda reader, writer: self._serve(reader, writer, answer)
            )

        await self._line.serve(made)

    async def close(self) -> None:
        """Accept no more requests; those under way are still answered."""
        self._line.close()

    async def ask(self, request: RpcRequest) -> RpcResponse:
        """Send a request to the writer and return its response. Raises WriterUnreachable."""
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                reader, writer = await self._connected()
                try:
                    await _send(writer, msgspec.msgpack.encode(request))
                    return msgspec.msgpack.decode(await _receive(reader, RESPONSE_BYTES_MAX), type=RpcResponse)
                finally:
                    writer.transport.abort()  # what was not received by now is not needed
        except (OSError, EOFError, TimeoutError, NotImplementedError, msgspec.DecodeError) as error:
            raise WriterUnreachable(
                f"the process that writes does not answer: {error!r}; ask again in a few seconds"
            ) from error

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        protocol = await self._line.connect(lambda: _Asking(reader))
        assert protocol.transport is not None, "it is connected"
        return reader, asyncio.StreamWriter(protocol.transport, protocol, reader, asyncio.get_running_loop())

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
