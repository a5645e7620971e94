"""SQLite images: the klines of an archive file as a small SQLite database, made where the file was unpacked.

Binding values to statements is what storing costs most, and it holds the interpreter lock. An image comes from another
process as one piece of bytes, and SQLite copies its rows into the database by itself. Measured for months of 1m, CPU of
the process that writes: 0.8 µs a row instead of 2.6 (unfolding columns 1.1, inserting 1.1, log and checkpoint 0.3).
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
"""Whether Python was built with it; without it klines come as columns."""
ATTACHED_MAX: Final = 4  # at once; SQLite takes ten. A commit of one file has one
_PAGE_BYTES: Final = 16_384  # larger ones gain nothing
_ROWS_PER_STATEMENT: Final = 125  # the texts of a new connection are compiled anew: more rows cost more than they gain

_COLUMNS: Final = row_columns(KLINES)
_INTEGERS: Final = frozenset(name for name, of_type in KLINES.columns if of_type is int)

Pages = bytes
"""A whole database, as sqlite3's serialize gives it."""


class SqliteImage(Columns):
    """A run of the rows of one table of `pages`. Becomes columns only when somebody looks at its rows."""

    __slots__ = ("_opens_ms", "pages", "table")

    def __init__(self, pages: Pages, table: str, opens_ms: "array[int]") -> None:
        """`opens_ms`, ascending: every row of the table from the first of them to the last."""
        super().__init__(())
        self.pages = pages
        self.table = table
        self._opens_ms = opens_ms

    @property
    def opens_ms(self) -> Sequence[int]:
        """When the klines open."""
        return self._opens_ms

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """The columns in the order of Kline's fields; read when first asked for."""
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
        """Insert the rows into the database's table of the same name; `schema` is where the pages are attached."""
        names = ", ".join(_COLUMNS)
        done = connection.execute(
            f"INSERT INTO main.{self.table} (symbol, {names}) SELECT ?, {names} FROM {schema}.{self.table} "  # noqa: S608  constants
            f"WHERE open_time BETWEEN ? AND ? {on_conflict}",
            (symbol, self._opens_ms[0], self._opens_ms[-1]),
        )
        assert done.rowcount == len(self), f"{done.rowcount} rows of {self.table} were copied instead of {len(self)}"


class ImageBuilder:
    """Images in the making: takes in klines part by part (a Collector of infra.binance.unpack)."""

    def __init__(self, interval: Interval) -> None:
        """For a file of `interval`."""
        self._interval = interval
        self._opens_ms: dict[Interval, array[int]] = {}
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._connection.execute("PRAGMA journal_mode = off")
        self._connection.execute("BEGIN")

    def take(self, interval: Interval, rows: Columns) -> None:
        """Add klines that open after all of the same interval that came before."""
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
        """All of it, as images of one database. Nothing can be added any more."""
        self._connection.execute("COMMIT")
        pages = self._connection.serialize()
        images = {
            interval: SqliteImage(pages, row_table(KLINES, interval), opens_ms)
            for interval, opens_ms in self._opens_ms.items()
        }
        return FileKlines(images.pop(self._interval), images)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


@contextmanager
def attached(connection: sqlite3.Connection, batches: Iterable[Batch]) -> Iterator[Mapping[int, str]]:
    """The images of `batches` within reach of `connection`: the schema of each by the id of its pages.

    SQLite does this outside of transactions only. Images that are too many are left out.
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
