"""Streams from the process that writes to all others: a Unix socket in RUNTIME_DIR on which its hub is heard.

However many processes answer clients, the exchange is asked for each stream once. A frame is four bytes of length, two
of the length of the stream's name, the name, and the event; what the others want is msgpack behind four of length.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from socket import socket
from typing import Final, cast

import msgspec

from app.ports.clock import Clock
from app.ports.streams import Listener, StreamHub, StreamsFull
from infra.local.unix_socket import UnixSocket

ENDING: Final = "streams"  # of the socket's name
RETRY_S: Final = 0.5  # how soon a process looks for the writer again; a new one is there within a second or two
UNSENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""For a process that does not read: seconds of all there is. With more it is cut off, and begins anew."""
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024  # a frame of all tickers has 300 kB, a wish for all streams there may be 700
NAMES_MAX: Final = 1_000  # in one message
STALL_S_MAX: Final = 30.0  # for a process to take what waits for it, and to finish a message that it has begun
PROCESSES_MAX: Final = 128  # on one line; there are at most 64 workers and a few instances
_HEAD: Final = struct.Struct(">IH")
_LENGTH: Final = struct.Struct(">I")


class _Wish(msgspec.Struct, array_like=True):
    """Streams that a process wants, or wants no more."""

    is_wanted: bool
    streams: list[str]


_wish: Final = msgspec.msgpack.Decoder(_Wish)


class _Messages:
    """Cuts what comes into messages behind their lengths."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole. Raises ValueError for one that is longer than any can be."""
        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            if length > MESSAGE_BYTES_MAX:
                raise ValueError(f"{length} bytes are announced, {MESSAGE_BYTES_MAX} are the most allowed")
            if end - at - _LENGTH.size < length:
                break
            yield data[at + _LENGTH.size : at + _LENGTH.size + length]
            at += _LENGTH.size + length
        self._rest = data[at:]

    @property
    def is_within_one(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._rest)


class _Deadline:
    """Calls `passed` unless it is lifted in time."""

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed
        self._alarm: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Begin to count, or go on."""
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(STALL_S_MAX, self._passed)

    def lift(self) -> None:
        """Count no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class _Heard(asyncio.Protocol):
    """The writer's end of one process's connection."""

    def __init__(self, hub: StreamHub, connections: set["_Heard"]) -> None:
        self._hub = hub
        self._connections = connections
        self._messages = _Messages()
        self._streams: dict[str, None] = {}
        self._refused: dict[str, None] = {}
        self._reading, self._writing = _Deadline(self.end), _Deadline(self.end)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by name
        if len(self._connections) >= PROCESSES_MAX:
            self.end()
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._reading.lift()
        self._writing.lift()
        for stream in self._streams:
            self._hub.leave(stream, self.deliver)
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._messages.take(data):
                self._obey(_wish.decode(message))
        except (ValueError, msgspec.DecodeError):
            self.end()
        if self._messages.is_within_one:
            self._reading.set()
        else:
            self._reading.lift()

    def pause_writing(self) -> None:
        self._writing.set()

    def resume_writing(self) -> None:
        self._writing.lift()

    def deliver(self, stream: str, payload: bytes) -> None:
        """Send a frame on."""
        assert self._transport is not None, "it listens since its connection was made"
        if self._transport.is_closing():
            return
        name = stream.encode()
        head = _HEAD.pack(2 + len(name) + len(payload), len(name))
        self._transport.write(b"%b%b%b" % (head, name, payload))
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._transport.abort()

    def end(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _obey(self, wish: _Wish) -> None:
        if wish.is_wanted:
            self._join((*self._refused, *wish.streams))
            return
        for stream in wish.streams:
            self._refused.pop(stream, None)
            if stream in self._streams:
                del self._streams[stream]
                self._hub.leave(stream, self.deliver)
        self._join(tuple(self._refused))

    def _join(self, streams: Iterable[str]) -> None:
        for stream in streams:
            try:
                self._hub.join(stream, self.deliver)
            except StreamsFull:
                self._refused[stream] = None  # tried again whenever this process says what it wants
            else:
                self._refused.pop(stream, None)
                self._streams[stream] = None


class StreamFanoutServer:
    """The writer's end: whoever connects hears what it asks for."""

    def __init__(self, database: Path) -> None:
        self._socket = UnixSocket(database, ENDING)
        self._server: asyncio.Server | None = None
        self._connections: set[_Heard] = set()

    @property
    def processes(self) -> int:
        """How many are connected."""
        return len(self._connections)

    async def open(self, hub: StreamHub) -> None:
        """Let `hub` be heard from now on; only the holder of the lease may. Raises OSError."""

        def serve(listener: socket) -> Awaitable[asyncio.Server]:
            loop = asyncio.get_running_loop()
            return loop.create_unix_server(lambda: _Heard(hub, self._connections), sock=listener)

        self._server = await self._socket.listen(serve)

    async def close(self) -> None:
        """Be heard no more; nothing happens when the line is not open."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            for connection in tuple(self._connections):
                connection.end()
            self._socket.remove()


class _Hearing(asyncio.Protocol):
    """The other end."""

    def __init__(self, relay: "StreamFanoutClient") -> None:
        self.ended = asyncio.Event()
        self._relay = relay
        self._messages = _Messages()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._messages.take(data):
                name_end = 2 + int.from_bytes(message[:2], "big")
                self._relay.heard(message[2:name_end].decode(), message[name_end:])
        except ValueError:  # a UnicodeDecodeError is one
            self.end()

    def say(self, streams: Iterable[str], *, is_wanted: bool) -> None:
        """Tell what is wanted, or no more."""
        names = list(streams)
        for at in range(0, len(names), NAMES_MAX):
            message = msgspec.msgpack.encode(_Wish(is_wanted, names[at : at + NAMES_MAX]))
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(_LENGTH.pack(len(message)) + message)
                if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                    self.end()  # the next connection says what is wanted then

    def end(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class StreamFanoutClient:
    """The source of a hub in a process that does not write. See StreamSource in app/ports/streams.py."""

    def __init__(self, database: Path, clock: Clock, deliver: Listener) -> None:
        self._socket = UnixSocket(database, ENDING)
        self._clock = clock
        self._deliver = deliver
        self._wanted: dict[str, None] = {}
        self._heard_ms: dict[str, int] = {}
        self._hearing: _Hearing | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the writer is heard."""
        return self._hearing is not None

    def add(self, streams: Iterable[str]) -> None:
        """See StreamSource."""
        added = dict.fromkeys(stream for stream in streams if stream not in self._wanted)
        self._wanted.update(added)
        if self._hearing is not None:
            self._hearing.say(added, is_wanted=True)

    def remove(self, streams: Iterable[str]) -> None:
        """See StreamSource."""
        removed = [stream for stream in streams if stream in self._wanted]
        for stream in removed:
            del self._wanted[stream]
            self._heard_ms.pop(stream, None)
        if self._hearing is not None:
            self._hearing.say(removed, is_wanted=False)

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame came on the connection there is; the writer knows which streams are dead, not we."""
        return self._heard_ms.get(stream)

    def heard(self, stream: str, payload: bytes) -> None:
        """A frame came."""
        if stream in self._wanted:
            self._heard_ms[stream] = self._clock.now_ms()
            self._deliver(stream, payload)

    def forget(self) -> None:
        """Want nothing any more."""
        self._wanted.clear()
        self._heard_ms.clear()

    async def run(self) -> None:
        """Listen to whoever writes, for ever."""
        while True:
            try:
                with self._socket.found() as name:
                    _, hearing = await asyncio.get_running_loop().create_unix_connection(lambda: _Hearing(self), name)
            except (OSError, NotImplementedError):
                await self._clock.sleep(RETRY_S)
                continue
            try:
                self._hearing = hearing
                hearing.say(self._wanted, is_wanted=True)
                await hearing.ended.wait()
            finally:
                self._hearing = None
                self._heard_ms.clear()
                hearing.end()
            await self._clock.sleep(RETRY_S)
