"""Reads of the rows of a series, whether they are sealed or not."""

from functools import cache
from typing import Final, NamedTuple

from app.domain.block_grid import block_span, is_sealable
from app.domain.interval import Interval
from app.domain.kind import Kind, Row
from app.domain.series import Series
from app.domain.span import Span
from infra.sqlite.library import sqlite3
from infra.sqlite.row_reads import NO_LIMIT, printing, table_rows
from infra.sqlite.sealed import BODY, IN_WINDOW, reach, sealed_rows
from infra.sqlite.statements import reading
from infra.stores.cut import Unsealed, blocks_max, spliced
from infra.stores.row_tables import row_columns, row_table

_EMPTY: Final = b"[]"


def read_rows(
    connection: sqlite3.Connection, series: Series, window: Span, *, limit: int = NO_LIMIT, newest: bool = False
) -> list[Row]:
    """At most `limit` rows that open in `window`, the oldest or the `newest`, ascending. Raises StoreDamaged.

    Call it inside a transaction.
    """
    rows = table_rows(connection, series, window, limit=limit, newest=newest)
    if not window or not is_sealable(*series.table):
        return rows
    sealed = sealed_rows(connection, series, window, limit=limit, newest=newest)
    if not sealed:
        return rows
    rows = sorted(sealed + rows) if rows and sealed[-1] > rows[0] else sealed + rows
    if limit < 0:
        return rows
    return rows[max(0, len(rows) - limit) :] if newest else rows[:limit]


def read_encoded(
    connection: sqlite3.Connection, series: Series, window: Span, *, limit: int, newest: bool = False
) -> tuple[int, bytes]:
    """The rows of `read_rows`, printed as REST does: their number, and the body of an answer. Raises StoreDamaged.

    SQLite prints the unsealed rows and returns the blocks in one statement. Measured for 1,500 unsealed rows: 0.86
    times the duration of fetchall with orjson (1.2 times where SQLite counts its memory, see infra/sqlite/library.py).
    Building klines and printing these takes 1.65 times as long as fetchall with orjson, and holds the GIL most of that
    time. Sealed ones take a sixth.
    """
    if limit <= 0 or not window:
        return 0, _EMPTY
    if not is_sealable(*series.table):
        statement = _unsealed(*series.table, newest=newest)
        found = _Found(*connection.execute(statement, (series.name, *window, limit)).fetchone())
        return found.rows, found.body()
    answer = _answer(connection, series, window, limit, newest=newest)
    if answer is not None:
        return answer
    with reading(connection):  # sealed and unsealed spans take turns, or it takes more blocks than were read
        rows = read_rows(connection, series, window, limit=limit, newest=newest)
    shift, encode = series.interval.grid.shift, series.kind.encode
    return len(rows), b"[" + b",".join([encode(row, shift(row.open_ms, 1) - 1) for row in rows]) + b"]"


class _Found(NamedTuple):
    """What `_unsealed` selects."""

    rows: int
    first_ms: int | None
    first: str
    text: str

    def body(self) -> bytes:
        """The answer if there is nothing else."""
        if not self.rows:
            return _EMPTY
        body = bytes(self.text, "ascii")
        # SQLite takes columns that are not aggregated from the row with min()
        assert body.startswith(b"[" + self.first.encode()), "SQLite did not keep the order of the inner select"
        return body


def _answer(
    connection: sqlite3.Connection, series: Series, window: Span, limit: int, *, newest: bool
) -> tuple[int, bytes] | None:
    """The answer of `read_encoded` from one statement; None if that is not enough."""
    interval = series.interval
    name, code, reach_ms, _ = reach(series, window)
    ahead = interval.grid.count(reach_ms, window.start_ms)  # rows of the first block that may open before the window
    values = (name, *window, limit, code, reach_ms) if newest else (name, *window, limit, code, reach_ms, ahead)
    number = blocks_max(interval, limit)
    row = connection.execute(_statement(*series.table, number, newest=newest), values).fetchone()
    found, outer_ms = _Found(*row[:4]), row[4]
    blocks = [(start_ms, body) for start_ms, body in zip(row[5::2], row[6::2], strict=True) if body is not None]
    if not blocks:
        is_alone = not newest or outer_ms is None or block_span(interval, outer_ms).end_ms <= (found.first_ms or 0)
        return (found.rows, found.body()) if is_alone else None
    unsealed = Unsealed(found.rows, found.first_ms, found.body()[1:-1])
    return spliced(interval, window, limit, unsealed, blocks, outer_ms, newest=newest)


@cache
def _unsealed(kind: Kind, interval: Interval, *, newest: bool, limit: str = "?4") -> str:
    """The statement of unsealed rows: row count, first open time, first row as printed, and the JSON array."""
    names = ", ".join(row_columns(kind))
    table = row_table(kind, interval)
    rows = f"SELECT {names} FROM {table} WHERE symbol = ?1 AND open_time >= ?2 AND open_time < ?3"  # noqa: S608
    ordered = f"{rows} ORDER BY open_time LIMIT {limit}"
    if newest:
        ordered = f"SELECT * FROM ({rows} ORDER BY open_time DESC LIMIT {limit}) ORDER BY open_time"  # noqa: S608
    one = printing(kind, interval)
    return (
        f"SELECT count(*) AS found, min(open_time) AS first_ms, {one} AS first, "  # noqa: S608
        f"'[' || group_concat({one}) || ']' AS text FROM ({ordered})"
    )


@cache
def _statement(kind: Kind, interval: Interval, number: int, *, newest: bool) -> str:
    """The statement of unsealed rows and of up to `number` blocks, start and body in turn.

    Oldest first, only as many rows are printed as the blocks leave room for, and the fifth column is the open time of
    the oldest unsealed row; newest first, blocks are read only if there are too few rows, and it is the start of the
    newest block.
    """
    blocks = f"FROM block WHERE {_numbered(IN_WINDOW)} ORDER BY start_ms {'DESC' if newest else ''}"
    columns = [
        f"(SELECT {name} {blocks} LIMIT 1 OFFSET {each})" for each in range(number) for name in ("start_ms", BODY)
    ]
    if newest:
        columns = [f"CASE WHEN found < ?4 THEN {column} END" for column in columns]
        outer = f"(SELECT max(start_ms) FROM block WHERE {_numbered(IN_WINDOW)})"  # noqa: S608
        limit = "?4"
    else:
        table = row_table(kind, interval)
        outer = f"(SELECT min(open_time) FROM {table} WHERE symbol = ?1 AND open_time >= ?2 AND open_time < ?3)"  # noqa: S608
        sealed = f"(SELECT coalesce(sum(rows), 0) FROM (SELECT rows {blocks} LIMIT {number}))"  # noqa: S608
        limit = f"min(?4, max(0, ?4 + ?7 - {sealed}))"
    inner = _unsealed(kind, interval, newest=newest, limit=limit)
    return f"SELECT found, first_ms, first, text, {outer}, {', '.join(columns)} FROM ({inner})"  # noqa: S608


def _numbered(condition: str) -> str:
    """IN_WINDOW with the numbers of the values of `_answer`."""
    for number in (1, 5, 6, 3):
        condition = condition.replace("?", f"#{number}", 1)
    return condition.replace("#", "?")
