"""Stored ledgers."""

import json
from collections.abc import Iterable, Sequence

from app.domain.interval import INTERVALS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.kinds.registry import named
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import columns, put
from infra.stores.ledger_lines import LEDGER_COLUMNS, SeriesName, ledger_of


def read_ledger(connection: sqlite3.Connection, symbol: str, code: str) -> Ledger:
    """The stored ledger of one series."""
    lines = columns(
        connection,
        ("start_ms", "end_ms", "source"),
        "SELECT start_ms, end_ms, source FROM ledger WHERE symbol = ? AND interval = ? ORDER BY start_ms",
        (symbol, code),
    )
    return ledger_of(zip(*lines, strict=True))


def read_ledgers(connection: sqlite3.Connection) -> dict[Series, Ledger]:
    """The stored ledgers of all series."""
    return _by_series(columns(connection, LEDGER_COLUMNS, "SELECT * FROM ledger ORDER BY symbol, interval, start_ms"))


def read_ledgers_of(connection: sqlite3.Connection, wanted: Sequence[Series]) -> dict[Series, Ledger]:
    """The stored ledgers of some series, in one statement."""
    select = (
        "SELECT ledger.* FROM json_each(?) AS one CROSS JOIN ledger WHERE symbol = json_extract(one.value, '$[0]') "
        "AND interval = json_extract(one.value, '$[1]') ORDER BY symbol, interval, start_ms"
    )
    asked = json.dumps([(series.name, series.interval.code) for series in wanted])
    return _by_series(columns(connection, LEDGER_COLUMNS, select, (asked,)))


def write_ledger(connection: sqlite3.Connection, series: Series, ledger: Ledger) -> None:
    """Replace the stored ledger of `series`. Called inside a transaction."""
    name, code = series.name, series.interval.code
    connection.execute("DELETE FROM ledger WHERE symbol = ? AND interval = ?", (name, code))
    lines = [(name, code, *entry.span, entry.source.value) for entry in ledger.entries]
    put(connection, "ledger", LEDGER_COLUMNS, lines)


def _by_series(lines: Iterable[Iterable[str]]) -> dict[Series, Ledger]:
    by_series: dict[SeriesName, list[tuple[str, str, str]]] = {}
    for symbol, code, *line in zip(*lines, strict=True):
        by_series.setdefault(SeriesName(symbol, code), []).append((line[0], line[1], line[2]))
    return {named(name.symbol, INTERVALS[name.code]): ledger_of(each) for name, each in by_series.items()}
