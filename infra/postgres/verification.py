"""The stored results of verification: checks, disagreements and the counts of revisions."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final

import asyncpg

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.verification import Check, Verification
from app.kinds.registry import KINDS, named
from app.ports.store import Disagreement
from infra.postgres.ledgers import name_of
from infra.postgres.statements import arrays, overwrite, put
from infra.stores.ledger_lines import SeriesName
from infra.stores.row_tables import revision_table

_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms", "verified_at_ms")
_DISAGREEMENT_KEY: Final = ("symbol", "interval", "open_time", "other")
_DISAGREEMENT_VALUES: Final = ("ours", "theirs", "seen_ms")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM verification"
_OF_SERIES: Final = f"JOIN {arrays(('symbol', 'interval'))} AS one (symbol, interval) USING (symbol, interval)"
_ORDER: Final = "ORDER BY symbol, interval, start_ms"


async def read_verifications(connection: asyncpg.Connection) -> dict[Series, Verification]:
    """By series: all its checks."""
    found = _by_name(await connection.fetch(f"{_SELECT} {_ORDER}"))
    return {named(name.symbol, INTERVALS[name.code]): each for name, each in found.items()}


async def save_verified(connection: asyncpg.Connection, series: Series, spans: Spans, at_ms: int) -> Verification:
    """Record a check of `spans`, except rows that changed at `at_ms` or later; returns all checks of the series.

    Called inside a transaction.
    """
    name = name_of(series)
    changed = await connection.fetch(
        "SELECT open_time FROM revision WHERE symbol = $1 AND interval = $2 AND replaced_at_ms >= $3", *name, at_ms
    )
    spans -= Spans(Span(open_ms, series.interval.grid.shift(open_ms, 1)) for (open_ms,) in changed)
    before = await _read(connection, [name])
    verification = before.get(name, Verification()).record(spans, at_ms)
    await _write(connection, {name: verification})
    return verification


async def forget_checks(connection: asyncpg.Connection, changed: Mapping[SeriesName, Spans]) -> None:
    """Delete the checks of `changed` spans. Called inside the transaction that changes them."""
    if changed:
        found = await _read(connection, list(changed))
        stale = {name: each.without(changed[name]) for name, each in found.items() if each.spans & changed[name]}
        await _write(connection, stale)


async def read_disagreements(connection: asyncpg.Connection) -> list[Disagreement]:
    """All disagreements, oldest kline first."""
    select = f"SELECT {', '.join((*_DISAGREEMENT_KEY, *_DISAGREEMENT_VALUES))} FROM disagreement ORDER BY open_time"
    return [
        Disagreement(named(symbol, INTERVALS[code]), open_ms, INTERVALS[other], ours, theirs, seen_ms)
        for symbol, code, open_ms, other, ours, theirs, seen_ms in await connection.fetch(select)
    ]


async def save_disagreement(connection: asyncpg.Connection, found: Disagreement) -> None:
    """Store a disagreement, replacing an earlier one of the same kline. Called inside a transaction."""
    row = (*name_of(found.series), found.open_ms, found.other.code, found.ours, found.theirs, found.seen_ms)
    names = (*_DISAGREEMENT_KEY, *_DISAGREEMENT_VALUES)
    await put(connection, "disagreement", names, [row], overwrite(_DISAGREEMENT_KEY, _DISAGREEMENT_VALUES))


async def read_revisions(connection: asyncpg.Connection) -> dict[Series, int]:
    """By series: how many rows were replaced or deleted."""
    tables = sorted({revision_table(kind) for kind in KINDS.values()})
    counted = "SELECT symbol, interval, count(*) FROM {} WHERE old_source <> 'absent' GROUP BY 1, 2"
    select = " UNION ALL ".join(counted.format(each) for each in tables)
    return {named(name, INTERVALS[code]): number for name, code, number in await connection.fetch(select)}


async def read_revised(connection: asyncpg.Connection, series: Series, window: Span, limit: int) -> list[int]:
    """The first `limit` open times in `window` of which a held row was replaced or deleted, ascending."""
    select = (
        f"SELECT DISTINCT open_time FROM {revision_table(series.kind)} WHERE symbol = $1 AND interval = $2 "
        "AND open_time >= $3 AND open_time < $4 AND old_source <> 'absent' ORDER BY open_time LIMIT $5"
    )
    return [open_ms for (open_ms,) in await connection.fetch(select, *name_of(series), *window, limit)]


async def _read(connection: asyncpg.Connection, names: list[SeriesName]) -> dict[SeriesName, Verification]:
    return _by_name(await connection.fetch(f"{_SELECT} {_OF_SERIES} {_ORDER}", *zip(*names, strict=True)))


async def _write(connection: asyncpg.Connection, found: Mapping[SeriesName, Verification]) -> None:
    if found:
        delete = (
            f"DELETE FROM verification USING {arrays(('symbol', 'interval'))} AS one (symbol, interval) "
            "WHERE verification.symbol = one.symbol AND verification.interval = one.interval"
        )
        await connection.execute(delete, *zip(*found, strict=True))
        lines = [(*name, *check.span, check.at_ms) for name, each in found.items() for check in each.checks]
        await put(connection, "verification", _COLUMNS, lines)


def _by_name(lines: Iterable[Any]) -> dict[SeriesName, Verification]:
    """Checks of lines that are ordered by series."""
    return {
        SeriesName(*name): Verification(Check(Span(start, end), at) for _, _, start, end, at in group)
        for name, group in groupby(lines, key=lambda line: (line[0], line[1]))
    }
