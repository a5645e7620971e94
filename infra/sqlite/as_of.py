"""Rows of a past time: those of now, with what was replaced since put back."""

from collections.abc import Iterator

from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from infra.sqlite.history import read_rows
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import reading
from infra.stores.ledger_log import accounted, put_back, relisted
from infra.stores.row_tables import revision_table, row_columns


def rows_as_of(
    connection: sqlite3.Connection, series: Series, held: Spans, limit: int, at_ms: int, *, newest: bool
) -> list[Row]:
    """At most `limit` rows that opened in the `held` spans at `at_ms`, the oldest or the `newest`, ascending.

    `held` must have been held then. Raises NotRecorded, StoreDamaged.
    """
    parts: list[list[Row]] = []
    left = limit
    with reading(connection):
        select = "SELECT min(at_ms) FROM relisting WHERE symbol = ? AND at_ms > ?"
        [relisted_ms] = connection.execute(select, (series.symbol, at_ms)).fetchone()
        if relisted_ms is not None:
            raise relisted(series.symbol, at_ms, relisted_ms)
        for span in reversed(held) if newest else held:
            rest = span
            while rest and left:
                rows = read_rows(connection, series, rest, limit=left, newest=newest)
                part, rest = accounted(rest, rows, left, newest=newest)
                then = put_back(rows, _revisions(connection, series, part, at_ms))
                parts.append(then[-left:] if newest else then[:left])
                left -= len(parts[-1])
    if newest:
        parts.reverse()
    return [row for part in parts for row in part]


def _revisions(connection: sqlite3.Connection, series: Series, part: Span, at_ms: int) -> Iterator[tuple[str, Row]]:
    """Source and row of what opened in `part` and was replaced after `at_ms`, in the order in which it was."""
    select = (
        f"SELECT old_source, {', '.join(row_columns(series.kind))} FROM {revision_table(series.kind)} "  # noqa: S608
        "WHERE symbol = ? AND interval = ? AND open_time >= ? AND open_time < ? AND replaced_at_ms > ? ORDER BY id"
    )
    values = (series.name, series.interval.code, *part, at_ms)
    for source, *row in connection.execute(select, values).fetchall():
        yield source, tuple.__new__(series.kind.row, row)
