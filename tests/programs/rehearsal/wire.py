"""A keep-alive HTTP connection that is cheap enough for hundreds on the same machine as the node."""

import asyncio
import re
from time import monotonic_ns
from typing import Final, NamedTuple

import orjson

BODY_BYTES_KEPT: Final = 1 << 20  # a stream's buffer: an answer of 1,500 klines has 200 kB
PATIENCE_S: Final = 30.0
IDLE_S: Final = 4.0  # a connection that was idle for so long is not used again: the server closes it after 5 s
ROLES: Final = ("writer", "reader")
CONNECTS_MAX: Final = 40  # tries to reach both roles: chance decides which worker accepts
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_ETAG: Final = re.compile(rb"\r\netag: ([^\r]+)", re.IGNORECASE)


class Cut(Exception):
    """The connection ended before the answer was complete."""


class Answer(NamedTuple):
    """An answer and its latency."""

    status: int
    etag: bytes
    body: bytes
    ms: float


class Wire:
    """A client that connects for its first request, and again when the server has closed the connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether the next request can use the current connection, as far as known."""
        if self._streams is None or monotonic_ns() - self._used_ns > IDLE_S * 1e9:
            return False
        return not self._streams[0].at_eof() and self._streams[0].exception() is None

    async def ask(self, path: str, etag: bytes = b"") -> Answer:
        """GET `path`. Raises Cut; OSError when nothing listens on the port."""
        if not self.is_open:
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=BODY_BYTES_KEPT)
        assert self._streams is not None
        reader, writer = self._streams
        condition = b"If-None-Match: " + etag + b"\r\n" if etag else b""
        began_ns = monotonic_ns()
        try:
            writer.write(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + condition + b"\r\n")
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length and int(length[1]) else b""
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Cut(path) from error
        self._used_ns = monotonic_ns()
        found = _ETAG.search(head)
        return Answer(int(head[9:12]), found[1] if found else b"", body, (self._used_ns - began_ns) / 1e6)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def role_of(wire: Wire) -> str:
    """The role of the worker at the other end; "" if it has just died."""
    try:
        return str(orjson.loads((await wire.ask("/v1/health")).body)["role"])
    except (Cut, OSError, TimeoutError):
        return ""


async def meet(port: int, wires: dict[str, list[Wire]], count: int) -> bool:
    """Open connections until there are `count` to each role; return False if CONNECTS_MAX tries were not enough."""
    for _ in range(CONNECTS_MAX):
        if all(len(each) >= count for each in wires.values()):
            return True
        wire = Wire(port)
        found = wires.get(await role_of(wire))
        if found is not None and len(found) < count:
            found.append(wire)
        else:
            wire.close()
    return False
