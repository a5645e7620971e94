"""SQLite images: the klines of an archive file as a small SQLite database, built where the file is unpacked.

Binding values to statements is the largest cost of storing rows, and it holds the GIL. An image is received from
another process as one bytes object, and SQLite copies its rows into the database. Measured CPU of the writer for months
of 1m: 0.8 µs a row instead of 2.6 (unpickling columns 1.1, inserting 1.1, log and checkpoint 0.3).
"""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from app.domain.columns import Columns
from app.domain.interval import Interval
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.exchange import FileKlines
from infra.sqlite.row_tables import row_columns, row_table
from infra.sqlite.statements import columns, put_values

CAN_PACK: Final = hasattr(sqlite3.Connection, "deserialize")
"""Whether this Python's sqlite3 has `deserialize`; otherwise klines are sent as Columns."""
ATTACHED_MAX: Final = 4  # at once; SQLite allows ten. The commit of one archive file needs one
_PAGE_BYTES: Final = 16_384  # larger pages are not faster
_ROWS_PER_STATEMENT: Final = 125  # a new connection has to compile each statement; longer ones cost more than they save

_COLUMNS: Final = row_columns(KLINES)
_INTEGERS: Final = frozenset(name for name, of_type in KLINES.columns if of_type is int)

Pages = bytes
"""A whole SQLite database, from `sqlite3.Connection.serialize`."""


class SqliteImage(Columns):
    """Columns backed by consecutive rows of one table of `pages`; the rows are read only when they are used."""

    __slots__ = ("_opens_ms", "pages", "table")

    def __init__(self, pages: Pages, table: str, opens_ms: "array[int]") -> None:
        """`opens_ms`: the open times, ascending, of all the table's rows from the first to the last of them."""
        super().__init__(())
        self.pages = pages
        self.table = table
        self._opens_ms = opens_ms

    @property
    def opens_ms(self) -> Sequence[int]:
        """The open times of the klines in ms, ascending."""
        return self._opens_ms

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """The columns in the order of Kline's fields, read from the image at the first use."""
        if not self._columns and self._opens_ms:
            self._columns = tuple(self._read())
        return self._columns or tuple([] for _ in _COLUMNS)

    def _read(self) -> Iterator[list[Any]]:
        select = f"SELECT {', '.join(_COLUMNS)} FROM {self.table} WHERE open_time BETWEEN ? AND ?"  # noqa: S608
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.deserialize(self.pages)
            texts = columns(connection, _COLUMNS, select, (self._opens_ms[0], self._opens_ms[-1]))
        for name, column in zip(_COLUMNS, texts, strict=True):
            yield list(map(int, column)) if name in _INTEGERS else column

    def _run(self, index: slice) -> Columns:
        if index.step not in (None, 1):
            return Columns(self.columns)[index]
        return SqliteImage(self.pages, self.table, self._opens_ms[index])

    def __reduce__(self) -> tuple[object, ...]:
        return SqliteImage, (self.pages, self.table, self._opens_ms)

    def copy_into(self, connection: sqlite3.Connection, schema: str, symbol: str, on_conflict: str) -> None:
        """Insert the rows into the main database's table of the same name; `schema` is the attached image."""
        names = ", ".join(_COLUMNS)
        done = connection.execute(
            f"INSERT INTO main.{self.table} (symbol, {names}) SELECT ?, {names} FROM {schema}.{self.table} "  # noqa: S608  constants
            f"WHERE open_time BETWEEN ? AND ? {on_conflict}",
            (symbol, self._opens_ms[0], self._opens_ms[-1]),
        )
        assert done.rowcount == len(self), f"{done.rowcount} rows of {self.table} were copied instead of {len(self)}"


class ImageBuilder:
    """Builds images from klines that arrive in parts (a Collector of infra.binance.unpack)."""

    def __init__(self, interval: Interval) -> None:
        """`interval`: that of the archive file."""
        self._interval = interval
        self._opens_ms: dict[Interval, array[int]] = {}
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._connection.execute("PRAGMA journal_mode = off")
        self._connection.execute("BEGIN")

    def take(self, interval: Interval, rows: Columns) -> None:
        """Add klines of `interval`, which must open after all those added before."""
        table = row_table(KLINES, interval)
        if interval not in self._opens_ms:
            self._opens_ms[interval] = array("q")
            key, *others = (f"{name} {'INTEGER' if name in _INTEGERS else 'TEXT'}" for name in _COLUMNS)
            self._connection.execute(f"CREATE TABLE {table} ({key} PRIMARY KEY, {', '.join(others)})")
        self._opens_ms[interval].extend(rows.opens_ms)
        width = len(_COLUMNS)
        values: list[object] = [None] * (width * len(rows))
        for number, column in enumerate(rows.columns):
            values[number::width] = column
        put_values(self._connection, table, _COLUMNS, values, rows_max=_ROWS_PER_STATEMENT)

    def found(self) -> FileKlines:
        """All added klines, as images of one database. Nothing can be added afterwards."""
        self._connection.execute("COMMIT")
        pages = self._connection.serialize()
        images = {
            interval: SqliteImage(pages, row_table(KLINES, interval), opens_ms)
            for interval, opens_ms in self._opens_ms.items()
        }
        return FileKlines(images.pop(self._interval), images)

    def close(self) -> None:
        """Free the memory of the database."""
        self._connection.close()


@contextmanager
def attached(connection: sqlite3.Connection, batches: Iterable[Batch]) -> Iterator[Mapping[int, str]]:
    """Attach the images of `batches` to `connection`, and yield their schema names by `id` of their pages.

    SQLite attaches only outside of transactions. More than ATTACHED_MAX images are not attached.
    """
    schemas: dict[int, str] = {}
    try:
        for batch in batches:
            image = batch.rows
            if isinstance(image, SqliteImage) and id(image.pages) not in schemas and len(schemas) < ATTACHED_MAX:
                schema = schemas[id(image.pages)] = f"image_{len(schemas)}"
                connection.execute(f"ATTACH ':memory:' AS {schema}")
                connection.deserialize(image.pages, name=schema)
        yield schemas
    finally:
        for schema in schemas.values():
            connection.execute(f"DETACH {schema}")
