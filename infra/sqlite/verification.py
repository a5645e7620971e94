"""The stored results of verification: checks, disagreements and the counts of revisions."""

from typing import Final

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.verification import Check, Verification
from app.kinds.registry import KINDS, named
from app.ports.store import Disagreement
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import columns, overwrite, put, writing
from infra.stores.row_tables import revision_table

_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms", "verified_at_ms")
_DISAGREEMENT_KEY: Final = ("symbol", "interval", "open_time", "other")
_DISAGREEMENT_VALUES: Final = ("ours", "theirs", "seen_ms")


def read_verifications(connection: sqlite3.Connection) -> dict[Series, Verification]:
    """By series: all its checks."""
    lines = columns(connection, _COLUMNS, "SELECT * FROM verification ORDER BY symbol, interval, start_ms")
    by_series: dict[Series, list[Check]] = {}
    for symbol, code, start, end, at in zip(*lines, strict=True):
        check = Check(Span(int(start), int(end)), int(at))
        by_series.setdefault(named(symbol, INTERVALS[code]), []).append(check)
    return {series: Verification(checks) for series, checks in by_series.items()}


def save_verified(connection: sqlite3.Connection, series: Series, spans: Spans, at_ms: int) -> Verification:
    """Record a check of `spans`, except rows that changed at `at_ms` or later; returns all checks of the series."""
    symbol, code = series.name, series.interval.code
    with writing(connection):
        changed = connection.execute(
            "SELECT open_time FROM revision WHERE symbol = ? AND interval = ? AND replaced_at_ms >= ?",
            (symbol, code, at_ms),
        ).fetchall()
        spans -= Spans(Span(open_ms, series.interval.grid.shift(open_ms, 1)) for (open_ms,) in changed)
        verification = _read(connection, symbol, code).record(spans, at_ms)
        _write(connection, symbol, code, verification)
    return verification


def forget_checks(connection: sqlite3.Connection, symbol: str, code: str, spans: Spans) -> None:
    """Delete the checks of `spans`, which have changed. Called inside the transaction that changes them."""
    before = _read(connection, symbol, code)
    if before.spans & spans:
        _write(connection, symbol, code, before.without(spans))


def read_disagreements(connection: sqlite3.Connection) -> list[Disagreement]:
    """All disagreements, oldest kline first."""
    select = f"SELECT {', '.join((*_DISAGREEMENT_KEY, *_DISAGREEMENT_VALUES))} FROM disagreement ORDER BY open_time"  # noqa: S608  constants
    return [
        Disagreement(named(symbol, INTERVALS[code]), open_ms, INTERVALS[other], ours, theirs, seen_ms)
        for symbol, code, open_ms, other, ours, theirs, seen_ms in connection.execute(select).fetchall()
    ]


def save_disagreement(connection: sqlite3.Connection, found: Disagreement) -> None:
    """Store a disagreement, replacing an earlier one of the same kline."""
    key = (found.series.name, found.series.interval.code, found.open_ms, found.other.code)
    row = (*key, found.ours, found.theirs, found.seen_ms)
    with writing(connection):
        names = (*_DISAGREEMENT_KEY, *_DISAGREEMENT_VALUES)
        put(connection, "disagreement", names, [row], overwrite(_DISAGREEMENT_KEY, _DISAGREEMENT_VALUES))


def read_revisions(connection: sqlite3.Connection) -> dict[Series, int]:
    """By series: how many rows were replaced or deleted."""
    found: dict[Series, int] = {}
    for table in {revision_table(kind) for kind in KINDS.values()}:
        select = (
            f"SELECT symbol, interval, count(*) FROM {table} WHERE old_source <> 'absent' "  # noqa: S608  a constant
            "GROUP BY symbol, interval"
        )
        for name, code, number in connection.execute(select).fetchall():
            found[named(name, INTERVALS[code])] = number
    return found


def read_revised(connection: sqlite3.Connection, series: Series, window: Span, limit: int) -> list[int]:
    """The first `limit` open times in `window` of which a held row was replaced or deleted, ascending."""
    select = (
        f"SELECT DISTINCT open_time FROM {revision_table(series.kind)} WHERE symbol = ? AND interval = ? "  # noqa: S608
        "AND open_time >= ? AND open_time < ? AND old_source <> 'absent' ORDER BY open_time LIMIT ?"
    )
    found = connection.execute(select, (series.name, series.interval.code, *window, limit)).fetchall()
    return [open_ms for (open_ms,) in found]


def _read(connection: sqlite3.Connection, symbol: str, code: str) -> Verification:
    lines = connection.execute(
        "SELECT start_ms, end_ms, verified_at_ms FROM verification WHERE symbol = ? AND interval = ?", (symbol, code)
    ).fetchall()
    return Verification(Check(Span(start_ms, end_ms), at_ms) for start_ms, end_ms, at_ms in lines)


def _write(connection: sqlite3.Connection, symbol: str, code: str, verification: Verification) -> None:
    connection.execute("DELETE FROM verification WHERE symbol = ? AND interval = ?", (symbol, code))
    rows = [(symbol, code, *check.span, check.at_ms) for check in verification.checks]
    put(connection, "verification", _COLUMNS, rows)
