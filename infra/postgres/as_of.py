"""Rows of a past time: those of now, with what was replaced since put back."""

import asyncpg

from app.domain.kind import Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from infra.postgres.fence import reading
from infra.postgres.history import read_rows
from infra.stores.ledger_log import accounted, put_back, relisted
from infra.stores.row_tables import revision_table, row_columns


async def rows_as_of(
    connection: asyncpg.Connection, series: Series, held: Spans, limit: int, at_ms: int, *, newest: bool
) -> list[Row]:
    """At most `limit` rows that opened in the `held` spans at `at_ms`, the oldest or the `newest`, ascending.

    `held` must have been held then. Raises NotRecorded, StoreDamaged.
    """
    parts: list[list[Row]] = []
    left = limit
    async with reading(connection):
        select = "SELECT min(at_ms) FROM relisting WHERE symbol = $1 AND at_ms > $2"
        relisted_ms = await connection.fetchval(select, series.symbol, at_ms)
        if relisted_ms is not None:
            raise relisted(series.symbol, at_ms, relisted_ms)
        for span in reversed(held) if newest else held:
            rest = span
            while rest and left:
                rows = await read_rows(connection, series, rest, limit=left, newest=newest)
                part, rest = accounted(rest, rows, left, newest=newest)
                then = put_back(rows, await _revisions(connection, series, part, at_ms))
                parts.append(then[-left:] if newest else then[:left])
                left -= len(parts[-1])
    if newest:
        parts.reverse()
    return [row for part in parts for row in part]


async def _revisions(connection: asyncpg.Connection, series: Series, part: Span, at_ms: int) -> list[tuple[str, Row]]:
    """Source and row of what opened in `part` and was replaced after `at_ms`, in the order in which it was."""
    select = (
        f"SELECT old_source, {', '.join(row_columns(series.kind))} FROM {revision_table(series.kind)} "
        "WHERE symbol = $1 AND interval = $2 AND open_time >= $3 AND open_time < $4 AND replaced_at_ms > $5 ORDER BY id"
    )
    records = await connection.fetch(select, series.name, series.interval.code, *part, at_ms)
    return [(source, tuple.__new__(series.kind.row, row)) for source, *row in map(tuple, records)]
