"""The journal of recent changes: the series and open times of each commit, read by the other processes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from app.domain.block_grid import is_sealable
from app.domain.interval import INTERVALS, Interval
from app.domain.kind import Kind, Row
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.domain.store_rules import Batch
from app.kinds.registry import named
from app.ports.coordination import Change, Changes
from app.ports.store import Committed
from infra.sqlite.ledgers import read_ledgers_of
from infra.sqlite.library import sqlite3
from infra.sqlite.row_reads import NO_LIMIT, rows_of, selected
from infra.sqlite.sealed import reach, sealed_rows
from infra.sqlite.statements import columns, put, reading
from infra.stores.row_tables import row_columns, row_table
from infra.stores.touched import FIRST_SHIFT, hulls, touched

CHANGES_KEPT: Final = 20_000  # four times the series that close at midnight, or minutes of a backfill; 1.2 MB on disk

_COLUMNS: Final = ("seq", "symbol", "interval", "start_ms", "end_ms")


def note(connection: sqlite3.Connection, batches: Sequence[Batch], results: Sequence[Committed], now_ms: int) -> None:
    """Record what `batches` changed. Called inside their transaction."""
    note_spans(connection, touched(batches, results), now_ms)


def note_spans(connection: sqlite3.Connection, changed: Iterable[tuple[Series, Span]], now_ms: int) -> None:
    """Record the changed span of each series, one row a series. Called inside the transaction of the change."""
    found = hulls(changed)
    if not found:
        return
    last = _last(connection) or now_ms << FIRST_SHIFT
    rows = [
        (last + number, series.name, series.interval.code, *span)
        for number, (series, span) in enumerate(found.items(), 1)
    ]
    put(connection, "change", _COLUMNS, rows)
    connection.execute("DELETE FROM change WHERE seq <= ?", (last + len(rows) - CHANGES_KEPT,))


def read_changes(connection: sqlite3.Connection, after: int | None) -> Changes:
    """The changes committed after change number `after`, with the current ledgers."""
    last = _last(connection) or 0
    if last == after:
        return Changes(last, True, {})
    with reading(connection):
        last = _last(connection) or 0
        first = connection.execute("SELECT min(seq) FROM change").fetchone()[0] or 0
        if after is None or not first - 1 <= after <= last:
            return Changes(last, False, {})
        select = "SELECT symbol, interval, start_ms, end_ms FROM change WHERE seq > ? ORDER BY seq"
        lines = zip(*columns(connection, _COLUMNS[1:], select, (after,)), strict=True)
        spans = hulls(
            (named(symbol, INTERVALS[code]), Span(int(start), int(end))) for symbol, code, start, end in lines
        )
        ledgers = read_ledgers_of(connection, list(spans))
    return Changes(last, True, {series: Change(span, ledgers.get(series, _EMPTY)) for series, span in spans.items()})


def read_spans(connection: sqlite3.Connection, wanted: Mapping[Series, Span]) -> dict[Series, list[Row]]:
    """By series: its rows, ascending, that open in its span of `wanted`. Raises StoreDamaged.

    Two statements for each kind and interval, and one for each block.
    """
    found: dict[Series, list[Row]] = {}
    with reading(connection):
        for kind, interval in {(series.kind, series.interval) for series in wanted}:
            of_table = {each.name: each for each in wanted if (each.kind, each.interval) == (kind, interval)}
            asked = [(name, *wanted[each]) for name, each in of_table.items()]
            for name, row in _read_spans(connection, kind, interval, asked):
                found.setdefault(of_table[name], []).append(row)
            for series in _with_blocks(connection, kind, interval, {each: wanted[each] for each in of_table.values()}):
                if sealed := sealed_rows(connection, series, wanted[series], limit=NO_LIMIT, newest=False):
                    found.setdefault(series, []).extend(sealed)
    for rows in found.values():
        rows.sort()
    return found


def _read_spans(
    connection: sqlite3.Connection, kind: Kind, interval: Interval, asked: list[tuple[str, int, int]]
) -> Iterator[tuple[str, Row]]:
    names_of_row, table = row_columns(kind), row_table(kind, interval)
    select = (
        f"SELECT symbol, {selected(kind)} FROM json_each(?) AS one CROSS JOIN {table} "  # noqa: S608  constants
        "WHERE symbol = json_extract(one.value, '$[0]') "
        "AND open_time >= json_extract(one.value, '$[1]') AND open_time < json_extract(one.value, '$[2]')"
    )
    names, *texts = columns(connection, ("symbol", *names_of_row), select, (json.dumps(asked),))
    return zip(names, rows_of(kind, texts), strict=True)


def _with_blocks(
    connection: sqlite3.Connection, kind: Kind, interval: Interval, wanted: Mapping[Series, Span]
) -> list[Series]:
    """Those of `wanted`, all of `kind` and `interval`, that have a block in their span."""
    if not is_sealable(kind, interval):
        return []
    by_name = {series.name: series for series in wanted}
    asked = [reach(series, span) for series, span in wanted.items() if span]
    select = (
        "SELECT json_extract(value, '$[0]') AS name FROM json_each(?) WHERE EXISTS (SELECT 1 FROM block "
        "WHERE symbol = json_extract(value, '$[0]') AND interval = json_extract(value, '$[1]') "
        "AND start_ms >= json_extract(value, '$[2]') AND start_ms < json_extract(value, '$[3]'))"
    )
    [names] = columns(connection, ("name",), select, (json.dumps(asked),))
    return [by_name[name] for name in names]


def _last(connection: sqlite3.Connection) -> int | None:
    last: int | None = connection.execute("SELECT max(seq) FROM change").fetchone()[0]
    return last


_EMPTY: Final = Ledger()
