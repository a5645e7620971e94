"""Encoded rows of one series in one contiguous buffer, so that building an answer from them takes one copy.

Measured with 600 series, so that nothing is in the processor's cache: joining 500 rows takes about 25 µs when each row
is an object of its own, and less than half of that from one buffer. A row takes 150 bytes instead of 190.

`pack` compresses the rows into frames, which `joined` decompresses again as far back as it needs them.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, overload

import zstandard

FRAME_ROWS: Final = 64
_COMMA: Final = b","
_EMPTY: Final = b"[]"
_compressor: Final = zstandard.ZstdCompressor(level=1)
_decompress: Final = zstandard.ZstdDecompressor().decompress


class EncodedRows:
    """A list of rows in REST's JSON form, stored already joined by commas."""

    __slots__ = ("_ends", "_framed", "_frames", "_text")

    def __init__(self, rows: Iterable[bytes] = ()) -> None:
        self._frames: list[tuple[int, bytes]] = []  # the oldest rows: their number, and their compressed text
        self._framed = 0  # rows in frames
        self._text = bytearray()  # the other rows
        self._ends: array[int] = array("I")  # end offset of each row with its comma, those in frames included
        self.extend(rows)

    @classmethod
    def of_body(cls, body: bytes) -> "EncodedRows":
        """Split an answer's body, `[[…],[…]]` or `[{…},{…}]`, into rows; values must contain no bracket or brace."""
        rows = cls()
        if len(body) > len(_EMPTY):
            rows._text += body[1:-1]
            rows._text += _COMMA
            between = body[-2:-1] + _COMMA + body[1:2]
            rows._ends = array("I", accumulate(len(row) + len(between) for row in body[2:-2].split(between)))
        return rows

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self[:])

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, int):
            at = index + len(self) if index < 0 else index
            return self[at : at + 1][0]
        places = range(*index.indices(len(self)))
        if not places:
            return []
        start, ends = self._start(min(places)), self._ends
        text = bytes(self._slice(min(places), max(places) + 1))
        return [text[self._start(each) - start : ends[each] - 1 - start] for each in places]

    @property
    def plain_bytes(self) -> int:
        """The size of the rows that are not compressed."""
        return len(self._text)

    def append(self, row: bytes) -> None:
        """Add a row at the end."""
        self._text += row
        self._text += _COMMA
        self._ends.append(self._start(len(self._ends)) + len(row) + 1)

    def extend(self, rows: Iterable[bytes]) -> None:
        """Add rows at the end."""
        for row in rows:
            self.append(row)

    def put_before(self, rows: "EncodedRows", number: int) -> None:
        """Add the first `number` of `rows` in front."""
        if number > 0:
            self._open(0)
            rows._open(0)
            size = rows._start(number)
            self._text = rows._text[:size] + self._text
            ends = rows._ends[:number]
            ends.extend(end + size for end in self._ends)
            self._ends = ends

    def replace(self, rows: Mapping[int, bytes]) -> None:
        """Replace the rows at the given positions."""
        if not rows:
            return
        if any(len(row) != self._ends[index] - 1 - self._start(index) for index, row in rows.items()):
            new = EncodedRows(rows.get(index, row) for index, row in enumerate(self))
            self._frames, self._framed, self._text, self._ends = [], 0, new._text, new._ends
            return
        self._open(min(rows))
        before = self._start(self._framed)
        for index, row in rows.items():
            start = self._start(index) - before
            self._text[start : start + len(row)] = row

    def drop_front(self, number: int) -> None:
        """Delete the first `number` rows."""
        if number <= 0:
            return
        left = number
        while left and self._frames:
            rows, packed = self._frames.pop(0)
            dropped = min(rows, left)
            if dropped < rows:
                at = self._start(number) - self._start(number - left)
                self._frames.insert(0, (rows - dropped, _compress(_decompress(packed)[at:])))
            left -= dropped
            self._framed -= dropped
        start = self._start(number)
        if left:
            dropped_bytes = start - self._start(number - left)
            self._text = self._text[dropped_bytes:]  # a copy: a bytearray keeps its front allocated
        self._ends = array("I", (end - start for end in self._ends[number:]))

    def joined(self, first: int, end: int) -> memoryview | bytes:
        """The rows `[first, end)`, joined by commas. The caller must copy them before these EncodedRows change."""
        if first >= end:
            return b""
        self._open(first)
        return self._slice(first, end)

    def pack(self) -> None:
        """Compress all rows."""
        if self._text and self._frames and self._frames[-1][0] < FRAME_ROWS:
            self._open(self._framed - 1)  # otherwise rows that come one by one would become as many frames
        before = self._start(self._framed)
        for first in range(self._framed, len(self), FRAME_ROWS):
            end = min(first + FRAME_ROWS, len(self))
            text = self._text[self._start(first) - before : self._ends[end - 1] - before]
            self._frames.append((end - first, _compress(text)))
        self._framed, self._text = len(self), bytearray()

    def _open(self, first: int) -> None:
        """Decompress the frames that have rows from `first` on."""
        texts: list[bytes | bytearray] = [self._text]
        while self._framed > first:
            rows, packed = self._frames.pop()
            self._framed -= rows
            texts.append(_decompress(packed))
        if len(texts) > 1:
            self._text = bytearray().join(reversed(texts))

    def _slice(self, first: int, end: int) -> memoryview:
        """The rows `[first, end)`, joined by commas, a copy if some of them are in frames."""
        rows = self
        if first < self._framed:
            rows = EncodedRows()
            rows._frames, rows._framed, rows._text, rows._ends = [*self._frames], self._framed, self._text, self._ends
            rows._open(first)
        before = rows._start(rows._framed)
        return memoryview(rows._text)[rows._start(first) - before : rows._ends[end - 1] - 1 - before]

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0


def _compress(text: bytes | bytearray) -> bytes:
    """`text` compressed, as a copy: the compressor's own bytes keep the room of the uncompressed text beside them."""
    return bytes(memoryview(_compressor.compress(text)))
