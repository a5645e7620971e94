"""SQLite: plain tables of all rows, as the node's own are, in a database of their own."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from app.domain.series import Series
from app.domain.span import Span
from app.ports.export import READ_ROWS, ColumnType, FileKind, Lines, ReadBatch, Shape
from infra.sqlite.library import sqlite3
from infra.stores.row_tables import row_columns, row_table

_TYPES: Final = {ColumnType.TIME_MS: "INTEGER", ColumnType.COUNT: "INTEGER"}


class SqliteFile:
    """A database that is being written (app.ports.export.RowsFile)."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        self._path = path
        self._decimal = "REAL" if kind.is_float else "TEXT"
        # nobody reads it before it has its name, and a crash makes it again: no journal, no waiting for the disk
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = off")
        self._connection.execute("PRAGMA synchronous = off")
        self._begun: set[str] = set()

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows, in one transaction. Raises OSError, as for any other file: the disk may be full."""
        table, names = row_table(*series.table), row_columns(series.kind)
        places = [lines.shape.names.index(name) for name in names]
        symbol = series.name
        rows = (line.split(",") for line in lines.text.decode().split("\n"))
        values = ((symbol, *[row[place] or None for place in places]) for row in rows)
        marks = ",".join("?" * (len(names) + 1))
        try:
            self._connection.execute("BEGIN")
            if table not in self._begun:
                self._connection.execute(self._created(table, lines.shape, names))
                self._begun.add(table)
            self._connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608  our own names
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OSError(f"rows cannot be written to {self._path.name}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _created(self, table: str, shape: Shape, names: Sequence[str]) -> str:
        types = dict(shape.columns)
        decimal = {ColumnType.PRICE: self._decimal, ColumnType.AMOUNT: self._decimal, ColumnType.WORD: "TEXT"}
        columns = ", ".join(f"{name} {(_TYPES | decimal)[types[name]]}" for name in names)
        return f"CREATE TABLE {table} (symbol TEXT NOT NULL, {columns}, PRIMARY KEY (symbol, open_time)) WITHOUT ROWID"


def read(path: Path, kind: FileKind, series: Series, window: Span) -> Iterator[ReadBatch]:
    """The rows of a series in a database; decimals are text, or float."""
    table, names = row_table(*series.table), row_columns(series.kind)
    select = (
        f"SELECT {', '.join(names)} FROM {table} "  # noqa: S608  our own names
        "WHERE symbol = ? AND open_time >= ? AND open_time < ? ORDER BY open_time"
    )
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    ) as connection:
        cursor = connection.execute(select, (series.name, *window))
        while batch := cursor.fetchmany(READ_ROWS):
            yield ReadBatch(names, batch)
