"""Cheap socket clients, many in one process, which record the event times of their streams."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

_HANDSHAKE: Final = (
    "GET {path} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_NAME_AT: Final = len('{"stream":"')
_TIME_DIGITS: Final = 13


class Listener(asyncio.Protocol):
    """A client of combined streams. A stalled client stops reading once it is connected."""

    def __init__(self, path: str, *, keeps: bool = False, is_stalled: bool = False) -> None:
        self.times_ms: dict[str, list[int]] = defaultdict(list)
        """By stream: the event times ("E") in order of arrival."""
        self.kept: list[tuple[float, str, str]] = []
        """With `keeps`: each message's arrival time, stream and text."""
        self.is_open = asyncio.Event()
        self.is_lost = False
        self.refusal = ""
        self._path = path
        self._keeps = keeps
        self._is_stalled = is_stalled
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    @property
    def frames(self) -> int:
        """How many events have arrived."""
        return sum(len(times) for times in self.times_ms.values())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_HANDSHAKE.format(path=self._path).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        if not self.is_open.is_set():
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._rest = data
                return
            self.is_open.set()
            if not data.startswith(b"HTTP/1.1 101"):
                self.refusal = data[:head].decode()
                return
            at = head + 4
            if self._is_stalled and self._transport is not None:
                self._transport.pause_reading()
        self._rest = data[self._take(data, at) :]

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, data: bytes, at: int) -> int:
        """Read whole frames from `at`; returns where the first incomplete one begins."""
        end = len(data)
        while end - at >= 4:
            length, body = data[at + 1], at + 2
            if length == 126:
                length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                if end - at < 10:
                    break
                length, body = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if end - body < length:
                break
            if data[at] == 0x81:
                self._event(data[body : body + length])
            at = body + length
        return at

    def _event(self, message: bytes) -> None:
        stream = message[_NAME_AT : message.index(b'"', _NAME_AT)].decode()
        time_at = message.index(b'"E":') + 4
        self.times_ms[stream].append(int(message[time_at : time_at + _TIME_DIGITS]))
        if self._keeps:
            self.kept.append((asyncio.get_running_loop().time(), stream, message.decode()))


async def listen(
    port: int, streams: Sequence[str], route: str = "", *, keeps: bool = False, is_stalled: bool = False
) -> Listener:
    """Connect a client."""
    path = f"{route}/stream?streams={quote('/'.join(streams), safe='/@!')}"
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(
        lambda: Listener(path, keeps=keeps, is_stalled=is_stalled), "127.0.0.1", port
    )
    await made.is_open.wait()
    assert not made.refusal, made.refusal
    return made
