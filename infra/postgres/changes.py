"""The journal of recent changes: the series and open times of each commit, read by the other processes.

The writer notifies CHANNEL in the same transaction, so that whoever listens reads the journal once it has something.
"""

from collections.abc import Iterable
from typing import Final

import asyncpg

from app.domain.interval import INTERVALS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.registry import named
from app.ports.coordination import Change, Changes
from infra.postgres.fence import reading
from infra.postgres.ledgers import name_of, read_ledgers_of
from infra.postgres.statements import lines
from infra.stores.touched import FIRST_SHIFT, hulls

CHANNEL: Final = "klinenode_change"
"""What the writer notifies; the payload is the number of the newest change."""
CHANGES_KEPT: Final = 20_000  # four times the series that close at midnight, or minutes of a backfill

_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms")
_NOTE: Final = f"""
WITH before AS (SELECT coalesce(max(seq), $1::bigint) AS last FROM change),
new AS (
    INSERT INTO change (seq, symbol, interval, start_ms, end_ms)
    SELECT last + number, symbol, interval, start_ms, end_ms
    FROM before, {lines(_COLUMNS, 2)} WITH ORDINALITY AS one (symbol, interval, start_ms, end_ms, number)
    RETURNING seq
),
old AS (DELETE FROM change USING before WHERE seq <= last + $6::bigint)
SELECT pg_notify('{CHANNEL}', max(seq)::text) FROM new
"""
"""$1: the number before the first; $6: how many of the new numbers, less those kept."""


async def note_spans(connection: asyncpg.Connection, changed: Iterable[tuple[Series, Span]], now_ms: int) -> None:
    """Record the changed span of each series, one row a series. Called inside the transaction of the change."""
    found = hulls(changed)
    if not found:
        return
    columns = zip(*((series.name, series.interval.code, *span) for series, span in found.items()), strict=True)
    texts = ["\n".join(map(str, column)) for column in columns]
    await connection.execute(_NOTE, now_ms << FIRST_SHIFT, *texts, len(found) - CHANGES_KEPT)


async def read_changes(connection: asyncpg.Connection, after: int | None) -> Changes:
    """The changes committed after change number `after`, with the current ledgers."""
    last = await _last(connection)
    if last == after:
        return Changes(last, True, {})
    async with reading(connection):
        last = await _last(connection)
        first = await connection.fetchval("SELECT min(seq) FROM change") or 0
        if after is None or not first - 1 <= after <= last:
            return Changes(last, False, {})
        select = "SELECT symbol, interval, start_ms, end_ms FROM change WHERE seq > $1 ORDER BY seq"
        noted = await connection.fetch(select, after)
        spans = hulls((named(symbol, INTERVALS[code]), Span(start, end)) for symbol, code, start, end in noted)
        ledgers = await read_ledgers_of(connection, list(map(name_of, spans)))
    found = {series: Change(span, ledgers.get(name_of(series), _EMPTY)) for series, span in spans.items()}
    return Changes(last, True, found)


async def _last(connection: asyncpg.Connection) -> int:
    last: int = await connection.fetchval("SELECT max(seq) FROM change") or 0
    return last


_EMPTY: Final = Ledger()
