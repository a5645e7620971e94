"""The log of ledger changes in a Postgres database: an entry in the transaction of each change."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final

import asyncpg

from app.domain.interval import INTERVALS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.kinds.registry import named
from infra.postgres.ledgers import name_of, read_ledgers
from infra.stores.ledger_lines import SeriesName
from infra.stores.ledger_log import (
    NO_LOG,
    LogBody,
    LogPlace,
    body_of_whole,
    ledgers_of,
    not_begun,
)

_PLACE: Final = """
SELECT last.seq, last.at_ms, whole.at_ms, length(whole.body),
    (SELECT coalesce(sum(length(body)), 0)::bigint FROM ledger_log WHERE seq > whole.seq)
FROM (SELECT seq, at_ms FROM ledger_log ORDER BY seq DESC LIMIT 1) AS last,
    (SELECT seq, at_ms, body FROM ledger_log WHERE is_whole = 1 ORDER BY seq DESC LIMIT 1) AS whole
"""
_FIRST: Final = "SELECT max(seq) FROM ledger_log WHERE is_whole = 1 AND at_ms <= $1"
_ENTRIES: Final = """
SELECT body FROM ledger_log WHERE seq >= $1 AND at_ms <= $2
AND seq < coalesce((SELECT min(seq) FROM ledger_log WHERE is_whole = 1 AND seq > $1), 9223372036854775807)
ORDER BY seq
"""


class LedgerLog:
    """What one write transaction adds to the log: `at_ms` is its time, and that of its revisions."""

    def __init__(self, connection: asyncpg.Connection, now_ms: int, place: LogPlace) -> None:
        """`place` is where the log ends (`read_place`)."""
        self._connection = connection
        self._body = LogBody()
        self.place = place
        self.at_ms = place.time_of(now_ms)

    def note(self, name: SeriesName, before: Ledger, after: Ledger) -> None:
        """Note that the transaction makes `after` of `before`."""
        self._body.note(name, before, after)

    async def write(self, *, revised: bool = False) -> None:
        """Append the entry, once the ledgers are written. Nothing was `revised` and noted: there is none."""
        if not (self._body or revised):
            return
        is_whole = self.place.needs_whole(self.at_ms)
        body = await _whole(self._connection) if is_whole else self._body.packed()
        self.place = self.place.after(self.at_ms, len(body), is_whole=is_whole)
        insert = "INSERT INTO ledger_log (seq, at_ms, is_whole, body) VALUES ($1, $2, $3, $4)"
        await self._connection.execute(insert, self.place.seq, self.at_ms, int(is_whole), body)


async def read_place(connection: asyncpg.Connection) -> LogPlace:
    """Where the log ends."""
    row = await connection.fetchrow(_PLACE)
    return NO_LOG if row is None else LogPlace(*row)


async def ledgers_as_of(
    connection: asyncpg.Connection, at_ms: int, wanted: Collection[Series] | None
) -> dict[Series, Ledger]:
    """The ledgers, of `wanted` series or all, after every transaction up to `at_ms`. Raises NotRecorded."""
    first = await connection.fetchval(_FIRST, at_ms)
    if first is None:
        raise not_begun(at_ms, await connection.fetchval("SELECT min(at_ms) FROM ledger_log WHERE is_whole = 1"))
    entries = await connection.fetch(_ENTRIES, first, at_ms)
    names = None if wanted is None else set(map(name_of, wanted))
    return await asyncio.to_thread(_ledgers, entries, names)  # those of a day take up to a second


def _ledgers(entries: Sequence[Any], names: Collection[SeriesName] | None) -> dict[Series, Ledger]:
    found = ledgers_of((body for (body,) in entries), names)
    return {named(name.symbol, INTERVALS[name.code]): ledger for name, ledger in found.items()}


async def _whole(connection: asyncpg.Connection) -> bytes:
    ledgers = await read_ledgers(connection)
    return await asyncio.to_thread(lambda: body_of_whole({name_of(each): found for each, found in ledgers.items()}))
