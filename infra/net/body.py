"""Decompression of HTTP bodies in pieces of bounded size: a megabyte of gzip may contain a gigabyte."""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from app.domain import letters

PIECE_BYTES_MAX: Final = 256 * 1024
_GZIP_WBITS: Final = 31  # gzip header and trailer, 32 kB window


class BadBody(ValueError):
    """The body is not encoded as its Content-Encoding says."""


class Unpacker(Protocol):
    """Decodes the bytes of a connection into the bytes of a body."""

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """The decoded bytes of `raw`, in pieces of at most PIECE_BYTES_MAX or of its own size. Raises BadBody."""
        ...

    def finish(self) -> None:
        """Raise BadBody if the body is not complete."""
        ...


class _Identity:
    def pieces(self, raw: bytes) -> Iterator[bytes]:
        yield raw

    def finish(self) -> None:
        """Do nothing: the connection checks the length."""


class _Gzip:
    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(_GZIP_WBITS)
        self._has_begun = False

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        self._has_begun = True
        while raw:
            if self._unpacker.eof:
                raise BadBody("bytes after the end of its gzip")
            try:
                piece = self._unpacker.decompress(raw, PIECE_BYTES_MAX)
            except zlib.error as error:
                raise BadBody(f"no gzip: {error}") from error
            raw = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        if self._has_begun and not self._unpacker.eof:
            raise BadBody("its gzip ends early")


def unpacker(content_encoding: str) -> Unpacker:
    """The decoder for a Content-Encoding. Raises BadBody for one that was not requested."""
    name = letters.lower(content_encoding.strip())
    if name in ("", "identity"):
        return _Identity()
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    raise BadBody(f"packed as {content_encoding!r:.40}, which was not asked for")
