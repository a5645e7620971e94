"""Sends the writer's streams to the other processes, over a line.

However many processes serve clients, each stream is subscribed once at the exchange. A frame is four bytes of length,
two with the length of the stream's name, the name, and the event; a change of what a process subscribes to is msgpack
behind four bytes of length.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

import msgspec

from app.ports.clock import Clock
from app.ports.streams import Listener, StreamHub, StreamsFull
from infra.lines.line import Line

ENDING: Final = "streams"  # of the name of a line that is a file
RETRY_S: Final = 0.5  # before a process connects again; after a writer's death there is a new one in a second or two
UNSENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Waiting for a peer that does not read: seconds of all streams. With more it is disconnected, and connects again."""
MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024  # a frame of all tickers has 300 kB, the names of all possible streams 700
NAMES_MAX: Final = 1_000  # in one message
STALL_S_MAX: Final = 30.0  # for a process to read what waits for it, and to finish a message that it has begun
PROCESSES_MAX: Final = 128  # connected at once; there are at most 64 workers and a few instances
_HEAD: Final = struct.Struct(">IH")
_LENGTH: Final = struct.Struct(">I")


class _SubscriptionChange(msgspec.Struct, array_like=True):
    """Streams to which a process subscribes, or from which it unsubscribes."""

    is_wanted: bool
    streams: list[str]


_subscription_change: Final = msgspec.msgpack.Decoder(_SubscriptionChange)


class _Messages:
    """Splits received bytes into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with `data`. Raises ValueError for one longer than MESSAGE_BYTES_MAX."""
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
        """Whether a message has begun and is not complete."""
        return bool(self._rest)


class _Deadline:
    """Calls `passed` STALL_S_MAX after `set`, unless `lift` is called before."""

    def __init__(self, passed: Callable[[], None]) -> None:
        self._passed = passed
        self._alarm: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Start the timer; does nothing while it runs."""
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(STALL_S_MAX, self._passed)

    def lift(self) -> None:
        """Stop the timer."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class _ServerConnection(asyncio.Protocol):
    """The writer's end of the connection of one process."""

    def __init__(self, hub: StreamHub, connections: set["_ServerConnection"]) -> None:
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
                self._apply(_subscription_change.decode(message))
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
        """Send a frame to the process."""
        assert self._transport is not None, "it joins streams after its connection was made"
        if self._transport.is_closing():
            return
        name = stream.encode()
        head = _HEAD.pack(2 + len(name) + len(payload), len(name))
        self._transport.write(b"%b%b%b" % (head, name, payload))
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._transport.abort()

    def end(self) -> None:
        """Disconnect, and drop what was not sent."""
        if self._transport is not None:
            self._transport.abort()

    def _apply(self, change: _SubscriptionChange) -> None:
        if change.is_wanted:
            self._join((*self._refused, *change.streams))
            return
        for stream in change.streams:
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
                self._refused[stream] = None  # tried again with every change of what this process subscribes to
            else:
                self._refused.pop(stream, None)
                self._streams[stream] = None


class LineStreamFanoutServer:
    """The writer's side for the processes that share a line. See StreamFanoutServer in app/ports/coordination.py."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._connections: set[_ServerConnection] = set()

    async def open(self, hub: StreamHub) -> None:
        """Serve the line, and send frames of `hub` to the processes that connect. Raises OSError."""
        await self._line.serve(lambda: _ServerConnection(hub, self._connections))

    async def close(self) -> None:
        """Accept no more processes, and disconnect those that are connected."""
        self._line.close()
        for connection in tuple(self._connections):
            connection.end()


class _ClientConnection(asyncio.Protocol):
    """The end of a connection in a process that does not write."""

    def __init__(self, client: "LineStreamFanoutClient") -> None:
        self.ended = asyncio.Event()
        self._client = client
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
                self._client.received(message[2:name_end].decode(), message[name_end:])
        except ValueError:  # a UnicodeDecodeError is one
            self.end()

    def say(self, streams: Iterable[str], *, is_wanted: bool) -> None:
        """Tell the writer that streams are wanted, or no longer wanted."""
        names = list(streams)
        for at in range(0, len(names), NAMES_MAX):
            message = msgspec.msgpack.encode(_SubscriptionChange(is_wanted, names[at : at + NAMES_MAX]))
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(_LENGTH.pack(len(message)) + message)
                if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                    self.end()  # the next connection begins with the streams wanted by then

    def end(self) -> None:
        """Disconnect, and drop what was not sent."""
        if self._transport is not None:
            self._transport.abort()


class LineStreamFanoutClient:
    """The side of a process that does not write. See StreamFanoutClient in app/ports/coordination.py."""

    def __init__(self, line: Line, clock: Clock, deliver: Listener) -> None:
        self._line = line
        self._clock = clock
        self._deliver = deliver
        self._wanted: dict[str, None] = {}
        self._heard_ms: dict[str, int] = {}
        self._connection: _ClientConnection | None = None

    def add(self, streams: Iterable[str]) -> None:
        """Ask the writer for streams, now and on each later connection."""
        added = dict.fromkeys(stream for stream in streams if stream not in self._wanted)
        self._wanted.update(added)
        if self._connection is not None:
            self._connection.say(added, is_wanted=True)

    def remove(self, streams: Iterable[str]) -> None:
        """Tell the writer that streams are no longer wanted; frames of them that still arrive are dropped."""
        removed = [stream for stream in streams if stream in self._wanted]
        for stream in removed:
            del self._wanted[stream]
            self._heard_ms.pop(stream, None)
        if self._connection is not None:
            self._connection.say(removed, is_wanted=False)

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame arrived on this connection (ms); which streams are dead, only the writer knows."""
        return self._heard_ms.get(stream)

    def received(self, stream: str, payload: bytes) -> None:
        """Deliver a frame if its stream is still wanted."""
        if stream in self._wanted:
            self._heard_ms[stream] = self._clock.now_ms()
            self._deliver(stream, payload)

    def forget(self) -> None:
        """Deliver no stream any more; called when `run` has ended."""
        self._wanted.clear()
        self._heard_ms.clear()

    async def run(self) -> None:
        """Stay connected to the writer, for ever."""
        while True:
            try:
                connection = await self._line.connect(lambda: _ClientConnection(self))
            except OSError:
                await self._clock.sleep(RETRY_S)
                continue
            try:
                self._connection = connection
                connection.say(self._wanted, is_wanted=True)
                await connection.ended.wait()
            finally:
                self._connection = None
                self._heard_ms.clear()
                connection.end()
            await self._clock.sleep(RETRY_S)
