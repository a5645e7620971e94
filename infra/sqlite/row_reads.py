"""Statements on the tables of rows that are not sealed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from operator import gt
from types import UnionType
from typing import Final

from app.domain.interval import MO1, Interval
from app.domain.kind import CLOSE_TIME, STAMP_TIME, Kind, Row
from app.domain.series import Series
from app.domain.span import Span
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import columns
from infra.stores.row_tables import row_columns, row_table

NO_LIMIT: Final = -1  # LIMIT -1 is no limit in SQLite
UNKNOWN: Final = "-"  # no decimal: what NULL is read as, because columns that are read as one text skip it


@cache
def selected(kind: Kind) -> str:
    """The columns of a kind's rows as they are selected for `statements.columns`: NULL as UNKNOWN."""
    return ", ".join(
        f"coalesce({name}, '{UNKNOWN}') AS {name}" if of_type == str | None else name for name, of_type in kind.columns
    )


def rows_of(kind: Kind, texts: Sequence[list[str]]) -> Iterator[Row]:
    """Rows of `kind` from `texts`, the columns that `columns` returned."""
    to_row = partial(tuple.__new__, kind.row)  # `_make` without its check of the length
    typed = zip(texts, kind.columns, strict=True)
    values = [_typed(text, of_type) for text, (_, of_type) in typed]
    return map(to_row, zip(*values, strict=True))


def _typed(texts: list[str], of_type: type | UnionType) -> Iterable[int | str | None]:
    if of_type is int:
        return map(int, texts)
    return texts if of_type is str else (None if text == UNKNOWN else text for text in texts)


def table_rows(
    connection: sqlite3.Connection, series: Series, window: Span, *, limit: int = NO_LIMIT, newest: bool = False
) -> list[Row]:
    """At most `limit` unsealed rows that open in `window`, the oldest or the `newest`, ascending."""
    order = "DESC" if newest else "ASC"
    select = (
        f"SELECT {selected(series.kind)} FROM {row_table(*series.table)} "  # noqa: S608  constants
        f"WHERE symbol = ? AND open_time >= ? AND open_time < ? ORDER BY open_time {order} LIMIT ?"
    )
    values = (series.name, window.start_ms, window.end_ms, limit)
    rows = list(rows_of(series.kind, columns(connection, row_columns(series.kind), select, values)))
    if newest:
        rows.reverse()
    if any(map(gt, rows, islice(rows, 1, None))):  # SQLite keeps the inner order, but does not guarantee it
        rows.sort()
    return rows


def printing(kind: Kind, interval: Interval) -> str:
    """The expression that prints one row of the table as REST does."""
    close_ms = (
        "strftime('%s', open_time / 1000, 'unixepoch', '+1 month') * 1000 - 1"
        if interval == MO1
        else f"open_time + {interval.grid.step_ms - 1}"
    )
    template, printed = kind.print_with({CLOSE_TIME: close_ms, STAMP_TIME: f"open_time + {kind.rest.stamp_ms}"})
    return f"printf('{template}', {', '.join(printed)})"


def delete_rows(connection: sqlite3.Connection, series: Series, opens_ms: Sequence[int]) -> None:
    """Delete the unsealed rows of `series` that open at `opens_ms`."""
    connection.execute(
        f"DELETE FROM {row_table(*series.table)} "  # noqa: S608  constant
        "WHERE symbol = ? AND open_time IN (SELECT value FROM json_each(?))",
        (series.name, json.dumps(opens_ms)),
    )


def delete_rows_in(connection: sqlite3.Connection, series: Series, span: Span) -> None:
    """Delete the unsealed rows of `series` that open in `span`."""
    connection.execute(
        f"DELETE FROM {row_table(*series.table)} WHERE symbol = ? AND open_time >= ? AND open_time < ?",  # noqa: S608
        (series.name, *span),
    )
