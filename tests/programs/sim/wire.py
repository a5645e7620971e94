"""The messages of Postgres' protocol, version 3.0, as far as somebody between client and server must understand them.

Time-outs that a client sets are taken out of its messages: the server would measure them in real time.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

STARTUP, CANCEL = b"startup", b"cancel"
"""The two messages without a type, with which a connection begins."""
QUERY, SYNC, FLUSH, TERMINATE = b"Q", b"S", b"H", b"X"
COPY_DONE, COPY_FAIL = b"c", b"f"
ERROR, READY, KEY, NOTIFICATION, COPY_IN, ROWS, NO_ROWS, PARAMETER = b"E", b"Z", b"K", b"A", b"G", b"T", b"n", b"S"
IDLE: Final = b"I"
"""The status in READY outside a transaction."""

ENDS: Final = {
    STARTUP: {READY},
    QUERY: {READY, COPY_IN},
    SYNC: {READY},
    FLUSH: {ROWS, NO_ROWS, ERROR},  # asyncpg flushes after it has a statement described, and nowhere else
    COPY_DONE: {READY},
    COPY_FAIL: {READY},
}
"""By the message that ends a request: the messages with which its reply ends."""
PING: Final = b"Q" + struct.pack("!i", 5) + b"\0"
"""An empty statement. Before the server is ready again, it sends the notifications that have come."""

_CANCEL_CODE: Final = 80_877_102
_PARSE: Final = b"P"
_HEAD: Final = struct.Struct("!i")
_TIMEOUTS: Final = "(statement|lock|idle_session|idle_in_transaction_session)_timeout"
_SET: Final = re.compile(rf"(SET (?:LOCAL )?{_TIMEOUTS} = )'?(\d+)(s?)'?".encode())


class Request(NamedTuple):
    """What a client sends until it waits for a reply."""

    kind: bytes
    data: bytes
    timeouts_ms: dict[str, int]
    """The time-outs that it sets, as `lock` or `idle_session`; 0: none."""


class Requests:
    """Cuts what a client sends into requests."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._whole = bytearray()
        self._timeouts_ms: dict[str, int] = {}
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that are complete with `data`."""
        self._bytes += data
        while (message := self._next()) is not None:
            kind, body = message
            self._whole += body
            if kind in ENDS or kind in (CANCEL, TERMINATE):
                yield Request(kind, bytes(self._whole), self._timeouts_ms)
                self._whole, self._timeouts_ms = bytearray(), {}

    def _next(self) -> tuple[bytes, bytes] | None:
        typed = int(self._has_begun)
        if len(self._bytes) < typed + 4:
            return None
        size = typed + _HEAD.unpack_from(self._bytes, typed)[0]
        if len(self._bytes) < size:
            return None
        message = bytes(self._bytes[:size])
        del self._bytes[:size]
        if not self._has_begun:
            self._has_begun = True
            is_cancel = _HEAD.unpack_from(message, 4)[0] == _CANCEL_CODE
            return (CANCEL, message) if is_cancel else (STARTUP, self._startup(message))
        kind = message[:1]
        return kind, self._statement(message) if kind in (QUERY, _PARSE) else message

    def _startup(self, message: bytes) -> bytes:
        words = message[8:-2].split(b"\0")
        for place in range(0, len(words), 2):
            if found := re.fullmatch(_TIMEOUTS, words[place].decode()):
                self._timeouts_ms[found[1]] = int(words[place + 1])
                words[place + 1] = b"0"
        body = message[4:8] + b"\0".join(words) + b"\0\0"
        return _HEAD.pack(len(body) + 4) + body

    def _statement(self, message: bytes) -> bytes:
        def without(found: re.Match[bytes]) -> bytes:
            self._timeouts_ms[found[2].decode()] = int(found[3]) * (1_000 if found[4] else 1)
            return found[1] + b"0"

        body = _SET.sub(without, message[5:])
        return message[:1] + _HEAD.pack(len(body) + 4) + body


class Replies:
    """Cuts what a server sends into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with `data`, each with its type as the first byte."""
        self._bytes += data
        while len(self._bytes) >= 5:
            size = 1 + _HEAD.unpack_from(self._bytes, 1)[0]
            if len(self._bytes) < size:
                return
            message = bytes(self._bytes[:size])
            del self._bytes[:size]
            yield message


def pid_of(message: bytes) -> int:
    """The process id of the server's session, from KEY."""
    pid: int = _HEAD.unpack_from(message, 5)[0]
    return pid
