"""The registry of formats: how their files are written and read back."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.domain.series import Series
from app.domain.span import Span
from app.ports.export import ExportError, FileKind, Format, OpenRows, ReadBatch, ReadRows, RowsFile
from infra.exporting import arrow_files, csv_file, marketstore_file, sqlite_file
from infra.sqlite.library import sqlite3

_WRITERS: Final[dict[Format, OpenRows]] = {
    Format.PARQUET: arrow_files.ParquetFile,
    Format.ARROW: arrow_files.ArrowFile,
    Format.CSV: csv_file.CsvFile,
    Format.SQLITE: sqlite_file.SqliteFile,
    Format.MARKETSTORE: marketstore_file.MarketstoreFile,
}
_READERS: Final[dict[Format, ReadRows]] = {
    Format.PARQUET: arrow_files.read,
    Format.ARROW: arrow_files.read,
    Format.CSV: csv_file.read,
    Format.SQLITE: sqlite_file.read,
    Format.MARKETSTORE: marketstore_file.read,
}


def open_rows(path: Path, kind: FileKind) -> RowsFile:
    """Begin a file at a path that does not exist. Raises ExportError when a library is missing; OSError."""
    return _WRITERS[kind.format](path, kind)


def read_rows(path: Path, kind: FileKind, series: Series, window: Span) -> Iterator[ReadBatch]:
    """The rows of a series in a file that open in a span, some at a time. Raises ExportError, OSError."""
    try:
        yield from _READERS[kind.format](path, kind, series, window)
    except (ValueError, LookupError, csv.Error, sqlite3.Error) as error:  # the libraries' own errors are such, too
        raise ExportError(
            f"{path} is not a {kind.format} file of {series} as this klinenode writes it: export it again to another "
            f"folder ({error})"
        ) from error
