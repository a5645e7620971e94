"""What a database file holds, sealed or not, for tests that look past the node."""

from collections import defaultdict
from contextlib import closing
from pathlib import Path

from app.domain.block_grid import block_span
from app.domain.interval import INTERVALS
from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.registry import named
from infra.blocks.block import Block
from infra.blocks.rows import rows_of_text
from infra.sqlite.library import sqlite3
from infra.sqlite.sealed import block_starts, insert_block, open_block, packed
from infra.stores.row_tables import row_table


def sealed_rows(connection: sqlite3.Connection) -> dict[Series, list[Row]]:
    """The rows of all blocks by series, ascending. Asserts that no block is damaged and no row is held twice."""
    found: dict[Series, list[Row]] = defaultdict(list)
    blocks = connection.execute("SELECT symbol, interval, start_ms, sha256, body FROM block ORDER BY start_ms")
    for name, code, start_ms, sha256, body in blocks.fetchall():
        series, block = named(name, INTERVALS[code]), Block(body)
        block.check(sha256)
        select = (
            f"SELECT count(*) FROM {row_table(*series.table)} WHERE symbol = ? AND open_time >= ? AND open_time < ?"
        )
        [twice] = connection.execute(select, (name, *block_span(series.interval, start_ms))).fetchone()
        assert not twice, f"{series}: {twice} rows beside their block of {start_ms}"
        found[series] += rows_of_text(series.kind, block.text(0, block.rows))
    return found


def change(database: Path, series: Series, open_ms: int, assignment: str, *values: object) -> None:
    """Change a row behind the node's back, as `volume = ?` and its value say; one in a block is sealed again."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        starts = block_starts(connection, series, Span(open_ms, open_ms + 1))
        for start_ms in starts:
            open_block(connection, series, start_ms)
        update = f"UPDATE {row_table(*series.table)} SET {assignment} WHERE symbol = ? AND open_time = ?"
        done = connection.execute(update, (*values, series.name, open_ms))
        assert done.rowcount == 1, f"{series} has no row of {open_ms}"
        for start_ms in starts:
            block = packed(connection, series, block_span(series.interval, start_ms))
            assert block is not None, "the changed row cannot be sealed"
            insert_block(connection, series, block)
        connection.execute("COMMIT")


def plain_copy(database: Path, copy: Path) -> None:
    """Copy a database that may be in use; the copy holds every row as a plain one."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.backup(target)
        target.execute("BEGIN")
        blocks = target.execute("SELECT symbol, interval, start_ms FROM block").fetchall()
        for name, code, start_ms in blocks:
            open_block(target, named(name, INTERVALS[code]), start_ms)
        target.execute("COMMIT")
