"""One keep-alive connection to a node, cheap enough that hundreds of them fit beside it on the same machine."""

import asyncio
import re
from time import monotonic_ns
from typing import Final, NamedTuple

import orjson

BODY_BYTES_KEPT: Final = 1 << 20  # that a stream buffers: an answer of 1,500 klines has 200 kB
PATIENCE_S: Final = 30.0
IDLE_S: Final = 4.0  # a server leaves after five: what was idle so long is not used again
ROLES: Final = ("writer", "reader")
CONNECTS_MAX: Final = 40  # at a time, to meet both roles: chance decides which worker answers
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_ETAG: Final = re.compile(rb"\r\netag: ([^\r]+)", re.IGNORECASE)


class Cut(Exception):
    """The connection ended while a request was under way."""


class Answer(NamedTuple):
    """What came back, and how long it took."""

    status: int
    etag: bytes
    body: bytes
    ms: float


class Wire:
    """A client that connects when it has something to ask, and again when the other side has left meanwhile."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether the next request takes the same connection, so far as we know."""
        if self._streams is None or monotonic_ns() - self._used_ns > IDLE_S * 1e9:
            return False
        return not self._streams[0].at_eof() and self._streams[0].exception() is None

    async def ask(self, path: str, etag: bytes = b"") -> Answer:
        """GET `path`. Raises Cut, and OSError when nobody listens."""
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
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def role_of(wire: Wire) -> str:
    """What the worker at the other end does; "" when it has died just now."""
    try:
        return str(orjson.loads((await wire.ask("/v1/health")).body)["role"])
    except (Cut, OSError, TimeoutError):
        return ""


async def meet(port: int, wires: dict[str, list[Wire]], count: int) -> bool:
    """Add connections until there are `count` to each role; False when chance and the workers did not allow it."""
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
