"""The table of sealed blocks (infra.blocks). Where a block is, the tables of rows have no rows of its series."""

from typing import Final

from app.domain.block_grid import block_span, is_sealable
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span
from infra.blocks.block import Block, BlockDamaged, Packed, pack
from infra.blocks.rows import rows_of_text
from infra.sqlite.library import sqlite3
from infra.sqlite.row_reads import delete_rows_in, printing
from infra.sqlite.statements import columns, put, put_values
from infra.stores.damage import damaged
from infra.stores.row_tables import row_columns, row_table

OF_SERIES: Final = "symbol = ? AND interval = ?"
IN_WINDOW: Final = f"{OF_SERIES} AND start_ms >= ? AND start_ms < ?"
BODY: Final = "CAST(body AS BLOB) AS body"
"""The body of a block as its bytes, also where damage has made a text of it: checksums tell what is wrong with it."""
_COLUMNS: Final = ("symbol", "interval", "start_ms", "rows", "first_ms", "last_ms", "sha256", "body")

_KEEP: Final = "ON CONFLICT DO NOTHING"


def reach(series: Series, window: Span) -> tuple[str, str, int, int]:
    """The values of IN_WINDOW for the blocks that overlap `window`."""
    return series.name, series.interval.code, block_span(series.interval, window.start_ms).start_ms, window.end_ms


def sealed_end_ms(connection: sqlite3.Connection, series: Series) -> int:
    """Where the newest block of `series` ends; 0 when it has none."""
    if not is_sealable(*series.table):
        return 0
    select = f"SELECT max(start_ms) FROM block WHERE {OF_SERIES}"  # noqa: S608  constant
    [start_ms] = connection.execute(select, (series.name, series.interval.code)).fetchone()
    return 0 if start_ms is None else block_span(series.interval, start_ms).end_ms


def block_starts(connection: sqlite3.Connection, series: Series, window: Span) -> list[int]:
    """The starts of the blocks that overlap `window`, ascending."""
    if not window or not is_sealable(*series.table):
        return []
    select = f"SELECT start_ms FROM block WHERE {IN_WINDOW} ORDER BY start_ms"  # noqa: S608  constant
    return [start_ms for (start_ms,) in connection.execute(select, reach(series, window)).fetchall()]


def read_body(connection: sqlite3.Connection, series: Series, start_ms: int) -> tuple[bytes, bytes]:
    """The SHA-256 and the body of the block that begins at `start_ms`, which must exist."""
    select = f"SELECT sha256, {BODY} FROM block WHERE {OF_SERIES} AND start_ms = ?"  # noqa: S608  constant
    found: tuple[bytes, bytes] = connection.execute(select, (series.name, series.interval.code, start_ms)).fetchone()
    return found


def sealed_rows(connection: sqlite3.Connection, series: Series, window: Span, *, limit: int, newest: bool) -> list[Row]:
    """At most `limit` sealed rows (all: -1) that open in `window`, the oldest or the `newest`, ascending.

    Raises StoreDamaged.
    """
    starts = block_starts(connection, series, window)
    parts: list[list[Row]] = []
    left = limit
    for start_ms in reversed(starts) if newest else starts:
        if left == 0:
            break
        rows = rows_in(connection, series, start_ms, window)
        kept = rows if left < 0 or len(rows) <= left else rows[-left:] if newest else rows[:left]
        parts.append(kept)
        left -= len(kept) if left > 0 else 0
    if newest:
        parts.reverse()
    return [row for part in parts for row in part]


def rows_in(
    connection: sqlite3.Connection, series: Series, start_ms: int, window: Span, *, is_checked: bool = False
) -> list[Row]:
    """The rows of the block that begins at `start_ms` that open in `window`. Raises StoreDamaged.

    `is_checked`: compare the whole block with its SHA-256 first.
    """
    sha256, body = read_body(connection, series, start_ms)
    try:
        block = Block(body, start_ms, series.interval.grid.step_ms)
        if is_checked:
            block.check(sha256)
        text = block.text(block.position(window.start_ms), block.position(window.end_ms))
        return rows_of_text(series.kind, text)
    except BlockDamaged as error:
        raise damaged(series, start_ms, error) from error


def insert_block(connection: sqlite3.Connection, series: Series, block: Packed) -> None:
    """Store `block` instead of the rows of its span."""
    delete_rows_in(connection, series, block.span)
    values = (block.span.start_ms, block.rows, block.first_ms, block.last_ms, block.sha256, block.body)
    put(connection, "block", _COLUMNS, [(series.name, series.interval.code, *values)])


def delete_block(connection: sqlite3.Connection, series: Series, start_ms: int) -> None:
    """Delete the block that begins at `start_ms`."""
    statement = f"DELETE FROM block WHERE {OF_SERIES} AND start_ms = ?"  # noqa: S608  constant
    connection.execute(statement, (series.name, series.interval.code, start_ms))


def open_block(connection: sqlite3.Connection, series: Series, start_ms: int) -> int:
    """Turn the block that begins at `start_ms` into rows, and return their number. Raises StoreDamaged.

    It is compared with its SHA-256: nothing could tell afterwards that the rows are not what was written.
    """
    rows = rows_in(connection, series, start_ms, block_span(series.interval, start_ms), is_checked=True)
    delete_block(connection, series, start_ms)
    values = [value for row in rows for value in (series.name, *row)]
    put_values(connection, row_table(*series.table), ("symbol", *row_columns(series.kind)), values, _KEEP)
    return len(rows)


def packed(connection: sqlite3.Connection, series: Series, span: Span) -> Packed | None:
    """The unsealed rows of `span`, which must be that of a block, as a block.

    None if there are none, or if their text could not be read back.
    """
    select = (
        f"SELECT open_time, {printing(*series.table)} AS text FROM {row_table(*series.table)} "  # noqa: S608  constants
        "WHERE symbol = ? AND open_time >= ? AND open_time < ? ORDER BY open_time"
    )
    opens, texts = columns(connection, ("open_time", "text"), select, (series.name, *span))
    if not texts:
        return None
    rows = [text.encode("ascii") for text in texts]
    try:
        if len(rows_of_text(series.kind, b",".join(rows))) != len(rows):
            return None
    except BlockDamaged:
        return None
    return pack(rows, list(map(int, opens)), span, series.interval.grid.step_ms)
