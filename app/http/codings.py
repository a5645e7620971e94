"""The content codings of a long body that is made piece by piece: which one a client prefers, and the pieces."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import zstandard

from app.http.page import GZIP_LEVEL, accepts_gzip, accepts_zstd

GZIP: Final = b"gzip"
ZSTD: Final = b"zstd"
PLAIN: Final = b""
PLAIN_BYTES_MAX: Final = (
    48 * 1024 * 1024
)  # of a body without a coding; what is beyond is kept compressed until it is sent
ZSTD_LEVEL: Final = 1  # measured on 500 rows: 0.15 ms and 0.22×
SEND_BYTES: Final = 64 * 1024  # sent at a time, at least: as much as 500 rows
_GZIP_FORMAT: Final = 31  # zlib's word for gzip's header around the largest window


class Body(Protocol):
    """A body that is being collected in one coding."""

    def add(self, data: bytes) -> None:
        """Add bytes, before coding."""
        ...

    def end(self) -> int:
        """End the body; returns its size in bytes as it is sent."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """The ended body as it is sent, in pieces of about SEND_BYTES."""
        ...


def coding_of(accept: bytes) -> bytes:
    """The coding for an Accept-Encoding: zstd where it is named, which takes a third of the time of gzip."""
    if accept and accepts_zstd(accept):
        return ZSTD
    return GZIP if accept and accepts_gzip(accept) else PLAIN


def body_in(coding: bytes) -> Body:
    """An empty body in `coding`."""
    return _Coded(coding) if coding else PlainBody()


class _Coded:
    """A compressed body. Rows of klines take 15 to 45 bytes each in it."""

    def __init__(self, coding: bytes) -> None:
        self._stream = (
            zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
            if coding == ZSTD
            else zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
        )
        self._made: list[bytes] = []

    def add(self, data: bytes) -> None:
        if made := self._stream.compress(data):
            self._made.append(made)

    def end(self) -> int:
        self._made.append(self._stream.flush())
        return sum(map(len, self._made))

    def pieces(self) -> Iterator[bytes]:
        return _grouped(self._made)


class PlainBody:
    """A body without a coding."""

    def __init__(self) -> None:
        self._made: list[bytes] = []
        self._packed: list[bytes] = []
        self._size = 0
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)

    def add(self, data: bytes) -> None:
        """Add bytes; those beyond PLAIN_BYTES_MAX are compressed."""
        self._size += len(data)
        if self._size <= PLAIN_BYTES_MAX:
            self._made.append(data)
        else:
            self._packed.append(self._compressor.compress(data))

    def put_before(self, data: bytes) -> None:
        """Add bytes in front of all others."""
        self._size += len(data)
        self._made.insert(0, data)

    def end(self) -> int:
        """The size of the body in bytes."""
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of about SEND_BYTES."""
        yield from _grouped(self._made)
        unpack = zstandard.ZstdDecompressor().decompress
        yield from _grouped(map(unpack, self._packed))


def _grouped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """`parts` joined into pieces of about SEND_BYTES."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= SEND_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
