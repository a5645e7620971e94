"""The bytes of one sealed block: rows as REST prints them, in zstd frames that are read one by one.

    version, number of gaps, number of frames, start, step      little-endian, `_HEAD`
    gaps                                                        where rows are absent: grid index, length
    frames                                                      rows, bytes
    CRC-32 of everything before it
    frames                                                      rows joined by commas, compressed, with zstd's checksum

A position in the block is found from the grid and the gaps, so nothing is parsed: an answer decompresses the frames
that it needs and cuts the first and the last one. Measured on recorded minutes: 35 bytes a row at level 1 and 34 at
level 9, which takes eight times as long; 0.2 µs a row to decompress, in frames of 240 rows as in whole days.
"""

import struct
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Final, NamedTuple

import zstandard

from app.domain.block_grid import ROWS_MAX
from app.domain.span import Span

VERSION: Final = 1  # another one needs another schema revision, which an older klinenode refuses to open
FRAME_ROWS: Final = 240
LEVEL: Final = 1
FRAME_BYTES_MAX: Final = FRAME_ROWS * 1_024
"""Of a frame, decompressed; a row of klines has 120 to 180. Damaged headers cannot make a reader allocate more."""

_HEAD: Final = struct.Struct("<BHHqq")
_GAP: Final = struct.Struct("<HH")
_FRAME: Final = struct.Struct("<HI")
_CRC: Final = struct.Struct("<I")
_COMMA: Final = b","


class _Zstd(threading.local):
    """Compresses and decompresses frames; each thread has its own, as making one takes as long as a frame."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd: Final = _Zstd()


class BlockDamaged(Exception):
    """The bytes of a block are not what was written."""


class Packed(NamedTuple):
    """A block as it is stored: the open times of its first and last row in ms, and the SHA-256 of its rows' text."""

    span: Span
    rows: int
    first_ms: int
    last_ms: int
    sha256: bytes
    body: bytes


def pack(rows: Sequence[bytes], opens_ms: Sequence[int], span: Span, step_ms: int) -> Packed:
    """Pack `rows`, the printed rows that open at `opens_ms`, ascending, of a series with the grid `step_ms`.

    All of them open inside `span`. At least one row is needed.
    """
    assert len(rows) == len(opens_ms), "each row has its open time"
    return pack_frames(
        [_COMMA.join(rows[at : at + FRAME_ROWS]) for at in frame_starts(len(rows))], opens_ms, span, step_ms
    )


def frame_starts(rows: int) -> range:
    """The positions of the first rows of frames in a block of so many rows."""
    return range(0, rows, FRAME_ROWS)


def pack_frames(texts: Sequence[bytes], opens_ms: Sequence[int], span: Span, step_ms: int) -> Packed:
    """Pack rows like `pack`; `texts` are those of each frame, joined by commas."""
    rows = len(opens_ms)
    assert 0 < rows <= ROWS_MAX, "a block has some rows, and not more than its span has times"
    assert len(texts) == -(-rows // FRAME_ROWS), "every frame but the last has FRAME_ROWS rows"
    assert span.start_ms <= opens_ms[0] <= opens_ms[-1] < span.end_ms, "rows outside of their block"
    frames = list(map(_zstd.compress, texts))
    gaps = list(_gaps(opens_ms, span, step_ms))
    head = [_HEAD.pack(VERSION, len(gaps), len(frames), span.start_ms, step_ms)]
    head += [_GAP.pack(*gap) for gap in gaps]
    counts = [FRAME_ROWS] * (len(frames) - 1) + [rows - FRAME_ROWS * (len(frames) - 1)]
    head += [_FRAME.pack(count, len(frame)) for count, frame in zip(counts, frames, strict=True)]
    described = b"".join(head)
    digest = sha256()
    for number, text in enumerate(texts):  # without a copy of them all
        digest.update(_COMMA if number else b"")
        digest.update(text)
    body = b"".join((described, _CRC.pack(zlib.crc32(described)), *frames))
    return Packed(span, rows, opens_ms[0], opens_ms[-1], digest.digest(), body)


def _gaps(opens_ms: Sequence[int], span: Span, step_ms: int) -> Iterator[tuple[int, int]]:
    """Runs of grid times before the last row that have no row: the index of the first, and how many."""
    if opens_ms[-1] - span.start_ms == (len(opens_ms) - 1) * step_ms:
        return
    expected = 0
    for open_ms in opens_ms:
        index, rest = divmod(open_ms - span.start_ms, step_ms)
        assert not rest, f"the row of {open_ms} is not on the grid"
        assert index >= expected, f"the row of {open_ms} is not after the one before"
        if index > expected:
            yield expected, index - expected
        expected = index + 1


class Block:
    """A stored block, whose frames are decompressed when they are read."""

    __slots__ = ("_body", "_frames", "_gaps", "_step_ms", "_until", "rows", "start_ms")
    start_ms: int
    _step_ms: int

    def __init__(self, body: bytes, start_ms: int | None = None, step_ms: int | None = None) -> None:
        """`start_ms` and `step_ms`: where its span must begin, and its grid.

        Raises BlockDamaged when its description is not what was written.
        """
        self._body = body
        try:
            version, gaps, frames, self.start_ms, self._step_ms = _HEAD.unpack_from(body)
            size = _HEAD.size + gaps * _GAP.size + frames * _FRAME.size
            [crc] = _CRC.unpack_from(body, size)
        except struct.error as error:
            raise BlockDamaged(f"it ends inside its description ({len(body)} bytes)") from error
        if crc != zlib.crc32(memoryview(body)[:size]):
            raise BlockDamaged("its description has another checksum")
        if version != VERSION:
            raise BlockDamaged(f"it has version {version}, which this klinenode does not know")
        if start_ms not in (None, self.start_ms):
            raise BlockDamaged(f"it is the block of {self.start_ms}")
        if step_ms not in (None, self._step_ms):
            raise BlockDamaged(f"its rows are {self._step_ms} ms apart")
        described = memoryview(body)[_HEAD.size : size]
        self._gaps: list[tuple[int, int]] = list(_GAP.iter_unpack(described[: gaps * _GAP.size]))
        counts, sizes = zip(*_FRAME.iter_unpack(described[gaps * _GAP.size :]), strict=True)
        self._until: list[int] = list(accumulate(counts))
        self._frames = list(accumulate(sizes, initial=size + _CRC.size))
        self.rows = self._until[-1]
        """The number of its rows."""
        if self._frames[-1] != len(body):
            raise BlockDamaged(f"it has {len(body)} bytes instead of {self._frames[-1]}")

    def position(self, time_ms: int) -> int:
        """How many rows open before `time_ms`."""
        index = max(0, -((self.start_ms - time_ms) // self._step_ms))
        absent = sum(min(length, index - at) for at, length in self._gaps if at < index)
        return min(index - absent, self.rows)

    def opens_ms(self) -> list[int]:
        """The open times of its rows, ascending."""
        last = self.rows + sum(length for _, length in self._gaps)
        indexes = set(range(last)).difference(*(range(at, at + length) for at, length in self._gaps))
        return [self.start_ms + index * self._step_ms for index in sorted(indexes)]

    def text(self, first: int, end: int) -> bytes:
        """The rows `[first, end)`, joined by commas. Raises BlockDamaged when they are not what was written."""
        return _COMMA.join(self.texts(first, end))

    def texts(self, first: int, end: int) -> list[bytes]:
        """The rows `[first, end)` in pieces of rows that are joined by commas, as `text`. Raises BlockDamaged."""
        end = min(end, self.rows)
        if first >= end:
            return []
        decompress = _zstd.decompress
        parts = []
        for number in range(bisect_right(self._until, first), bisect_right(self._until, end - 1) + 1):
            until = self._until[number]
            start = self._until[number - 1] if number else 0
            text = self._frame(number, decompress)
            if first > start or end < until:
                text = _cut(text, max(first, start) - start, min(end, until) - start, until - start)
            parts.append(text)
        return parts

    def check(self, digest: bytes) -> None:
        """Compare everything with what was written, `digest` being its `Packed.sha256`. Raises BlockDamaged."""
        if sha256(self.text(0, self.rows)).digest() != digest:
            raise BlockDamaged("its rows have another SHA-256")

    def _frame(self, number: int, decompress: Callable[[memoryview], bytes]) -> bytes:
        frame = memoryview(self._body)[self._frames[number] : self._frames[number + 1]]
        try:
            size = zstandard.frame_content_size(frame)
            if not 0 < size <= FRAME_BYTES_MAX:
                raise BlockDamaged(f"frame {number} claims to have {size} bytes")
            return decompress(frame)
        except zstandard.ZstdError as error:
            raise BlockDamaged(f"frame {number} cannot be decompressed: {error}") from error


def _cut(text: bytes, first: int, end: int, rows: int) -> bytes:
    """The rows `[first, end)` of `text`, which has so many `rows`; no value contains a bracket or brace."""
    start = _start(text, first, rows) if first else 0
    return text[start : _start(text, end, rows) - 1 if end < rows else None]


def _start(text: bytes, row: int, rows: int) -> int:
    """Where a row of `text` starts that has others before it; it is searched from the nearer end."""
    between = text[-1:] + _COMMA + text[:1]
    number = min(row, rows - row)
    parts = text.split(between, number) if number == row else text.rsplit(between, number)
    if len(parts) <= number:
        raise BlockDamaged(f"a frame has fewer than {rows} rows")
    return len(text) - len(parts[-1]) - 1 if number == row else len(parts[0]) + len(between) - 1


def split(text: bytes) -> list[bytes]:
    """Printed rows that are joined by commas, one by one; no value may contain a bracket or brace."""
    if not text:
        return []
    opening, closing = text[:1], text[-1:]
    return [opening + row + closing for row in text[1:-1].split(closing + _COMMA + opening)]
