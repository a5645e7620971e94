"""Statements on the tables of rows that are not sealed."""

import re
from collections.abc import Iterable, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any, Final

import asyncpg

from app.domain.columns import Columns
from app.domain.interval import MO1, Interval
from app.domain.kind import CLOSE_TIME, STAMP_TIME, Kind, Row
from app.domain.series import Series
from app.domain.span import Span
from infra.postgres.copying import copy_columns
from infra.postgres.statements import arrays, overwrite, put_columns
from infra.stores.row_tables import row_columns, row_table

COPIED_ROWS_MIN: Final = 2_000
"""From so many rows on, COPY is faster than arrays: measured for 44,640 rows 0.45 s instead of 1.7 s."""

Asked = tuple[str, int, int]
"""Rows that are asked for: the name of a series, and the span in which they open (ms)."""

_ASKED: Final = ("symbol", "start_ms", "end_ms")
_VALUE: Final = re.compile(r"%[ds]")


def rows_of(kind: Kind, records: Iterable[Iterable[Any]]) -> list[Row]:
    """Rows of `kind` from records that have its columns and nothing else."""
    return list(map(partial(tuple.__new__, kind.row), records))  # `_make` without its check of the length


async def table_rows(
    connection: asyncpg.Connection, series: Series, window: Span, *, limit: int | None = None, newest: bool = False
) -> list[Row]:
    """At most `limit` unsealed rows that open in `window`, the oldest or the `newest`, ascending."""
    select = (
        f"SELECT {', '.join(row_columns(series.kind))} FROM {row_table(*series.table)} "
        "WHERE symbol = $1 AND open_time >= $2 AND open_time < $3 "
        f"ORDER BY open_time {'DESC' if newest else ''} LIMIT $4"
    )
    rows = rows_of(series.kind, await connection.fetch(select, series.name, *window, limit))
    if newest:
        rows.reverse()
    return rows


async def rows_asked(
    connection: asyncpg.Connection, kind: Kind, interval: Interval, asked: Sequence[Asked]
) -> list[tuple[str, Row]]:
    """The unsealed rows that are `asked` for, each with the name of its series, in no order. One statement."""
    table = row_table(kind, interval)
    names = ", ".join(f"{table}.{name}" for name in row_columns(kind))
    select = (
        f"SELECT {table}.symbol, {names} FROM {arrays(_ASKED)} AS one ({', '.join(_ASKED)}) "
        f"JOIN {table} ON {table}.symbol = one.symbol AND open_time >= one.start_ms AND open_time < one.end_ms"
    )
    records = await connection.fetch(select, *zip(*asked, strict=True)) if asked else []
    to_row = partial(tuple.__new__, kind.row)
    return [(record[0], to_row(record[1:])) for record in map(tuple, records)]


@cache
def printing(kind: Kind, interval: Interval) -> str:
    """The expression that prints one row of the table as REST does; unknown values are printed as nothing."""
    close_ms = (
        "(extract(epoch FROM to_timestamp(open_time / 1000) AT TIME ZONE 'UTC' + interval '1 month')::bigint "
        "* 1000 - 1)"
        if interval == MO1
        else f"(open_time + {interval.grid.step_ms - 1})"
    )
    template, values = kind.print_with({CLOSE_TIME: close_ms, STAMP_TIME: f"(open_time + {kind.rest.stamp_ms})"})
    texts = [f"'{piece}'" for piece in _VALUE.split(template)]
    parts = [part for pair in zip(texts, [*values, ""], strict=True) for part in pair if part not in ("", "''")]
    return f"concat({', '.join(parts)})"


async def put_rows(
    connection: asyncpg.Connection, kind: Kind, interval: Interval, parts: Sequence[tuple[str, Sequence[Row]]]
) -> None:
    """Insert rows, or overwrite those with the same symbol and open time; `parts` are named series and their rows.

    The rows of one series that come later win. The rows of `replaced` must have been deleted. Called inside a
    transaction.
    """
    names, columns = ("symbol", *row_columns(kind)), _columns(parts)
    if _are_copied(parts):
        await copy_columns(connection, row_table(kind, interval), names, columns)
    else:
        await put_columns(connection, row_table(kind, interval), names, columns, _upsert(kind))


def replaced(kind: Kind, interval: Interval, parts: Sequence[tuple[str, Sequence[Row]]]) -> list[Asked]:
    """What must be deleted before `put_rows` gets `parts`: COPY overwrites nothing. Few rows need nothing."""
    if not _are_copied(parts):
        return []
    return [(name, *span) for name, rows in parts for span in _times(kind, interval, rows)]


def _are_copied(parts: Sequence[tuple[str, Sequence[Row]]]) -> bool:
    return sum(len(rows) for _, rows in parts) >= COPIED_ROWS_MIN


def _times(kind: Kind, interval: Interval, rows: Sequence[Row]) -> Iterable[Span]:
    """Spans in which the stored rows are those with the open times of `rows`."""
    columns = rows if isinstance(rows, Columns) else Columns.of(rows)
    if kind.is_sparse:  # others may open between two of them
        return [Span(open_ms, open_ms + 1) for open_ms in columns.opens_ms]
    return columns.spans(interval.grid)


async def delete_rows(connection: asyncpg.Connection, series: Series, opens_ms: Sequence[int]) -> None:
    """Delete the unsealed rows of `series` that open at `opens_ms`."""
    await connection.execute(
        f"DELETE FROM {row_table(*series.table)} WHERE symbol = $1 AND open_time = ANY($2::bigint[])",
        series.name,
        opens_ms,
    )


async def delete_rows_in(
    connection: asyncpg.Connection, kind: Kind, interval: Interval, asked: Sequence[Asked]
) -> None:
    """Delete the unsealed rows that are `asked` for. One statement, or none."""
    if not asked:
        return
    await connection.execute(
        f"DELETE FROM {row_table(kind, interval)} AS rows USING {arrays(_ASKED)} AS one ({', '.join(_ASKED)}) "
        "WHERE rows.symbol = one.symbol AND open_time >= one.start_ms AND open_time < one.end_ms",
        *zip(*asked, strict=True),
    )


def _columns(parts: Sequence[tuple[str, Sequence[Row]]]) -> list[Sequence[Any]]:
    """The columns of all `parts`, names first. A key must not come twice in a statement, so the later row stays."""
    if len({name for name, _ in parts}) < len(parts):
        by_key = {(name, row[0]): row for name, rows in parts for row in rows}
        records = [(name, *row) for (name, _), row in by_key.items()]
        return list(zip(*records, strict=True))
    if not any(isinstance(rows, Columns) for _, rows in parts):
        return list(zip(*((name, *row) for name, rows in parts for row in rows), strict=True))
    of_parts = [_columns_of(rows) for _, rows in parts]
    names = [name for name, rows in parts for _ in range(len(rows))]
    if len(of_parts) == 1:
        return [names, *of_parts[0]]
    return [names, *(list(chain.from_iterable(each)) for each in zip(*of_parts, strict=True))]


def _columns_of(rows: Sequence[Row]) -> Sequence[Sequence[Any]]:
    return rows.columns if isinstance(rows, Columns) else list(zip(*rows, strict=True))


@cache
def _upsert(kind: Kind) -> str:
    """The upsert clause by which a row of `kind` replaces the one with the same symbol and open time."""
    return overwrite(("symbol", "open_time"), row_columns(kind)[1:])
