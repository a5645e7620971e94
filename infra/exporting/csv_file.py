"""CSV: the exchange's own digits, with a header, the symbol and the interval."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from app.domain.series import Series
from app.domain.span import Span
from app.ports.export import READ_ROWS, ColumnType, FileKind, Lines, ReadBatch

_INTEGERS: Final = frozenset({ColumnType.TIME_MS, ColumnType.COUNT})


class CsvFile:
    """A CSV file that is being written (app.ports.export.RowsFile)."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        self._file = path.open("xb")
        self._file.write(",".join(("symbol", "interval", *kind.shape.names)).encode() + b"\n")

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows: their text, which is not parsed."""
        start = f"{series.name},{series.interval.code},".encode()
        ending = lines.shape.ending
        self._file.write(start + lines.text.removesuffix(ending).replace(ending + b"\n", b"\n" + start) + b"\n")

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


def read(path: Path, kind: FileKind, series: Series, window: Span) -> Iterator[ReadBatch]:
    """The rows of a series in a CSV file; decimals are text."""
    types = [type_ for _, type_ in kind.shape.columns]
    name, code = series.name, series.interval.code
    with path.open(newline="") as file:
        next(file)
        rows = (
            tuple(int(text) if type_ in _INTEGERS else text or None for text, type_ in zip(row[2:], types, strict=True))
            for row in csv.reader(file)
            if row[0] == name and row[1] == code and window.start_ms <= int(row[2]) < window.end_ms
        )
        while batch := list(islice(rows, READ_ROWS)):
            yield ReadBatch(kind.shape.names, batch)
