"""Rows as the text that COPY reads, in pieces: the server inserts a piece while the next one is printed.

asyncpg encodes 512 kB before it sends any; the server has nothing to do meanwhile. Measured for 4,590 rows of klines on
a busy machine: 30 ms instead of 42 ms, with the same processor time.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg

PIECE_ROWS: Final = 500  # 70 kB of klines; a piece costs as much as printing 20 rows

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL: Final = "\\N"


async def copy_columns(
    connection: asyncpg.Connection, table: str, names: Sequence[str], columns: Sequence[Sequence[Any]]
) -> None:
    """Append rows to `table`, given the values of each column of `names`: texts, integers, or None.

    Raises asyncpg.UniqueViolationError for a key that is there already.
    """
    await connection.copy_to_table(table, source=_pieces(columns), columns=names)


async def _pieces(columns: Sequence[Sequence[Any]]) -> AsyncIterator[bytes]:
    for at in range(0, len(columns[0]), PIECE_ROWS):
        yield piece([column[at : at + PIECE_ROWS] for column in columns])


def piece(columns: Sequence[Sequence[Any]]) -> bytes:
    """Rows in COPY's text form, given their columns: a line each, values parted by tabs."""
    rows = len(columns[0])
    try:
        lines = map("\t".join, zip(*map(_texts, columns), strict=True))
        text = "\n".join(lines)
    except TypeError:  # a None
        text = ""
    is_plain = "\\" not in text and "\r" not in text and text.count("\n") == rows - 1
    if not (is_plain and text.count("\t") == rows * (len(columns) - 1)):
        text = "\n".join("\t".join(map(_escaped, row)) for row in zip(*columns, strict=True))
    return f"{text}\n".encode()


def _texts(column: Sequence[Any]) -> Sequence[str]:
    return list(map(str, column)) if isinstance(column[0], int) else column


def _escaped(value: str | int | None) -> str:
    return _NULL if value is None else str(value).translate(_ESCAPES)
