"""The log of ledger changes in a SQLite database: an entry in the transaction of each change."""

from collections.abc import Collection
from typing import Final

from app.domain.interval import INTERVALS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.kinds.registry import named
from infra.sqlite.ledgers import read_ledgers
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import columns, put
from infra.stores.ledger_lines import SeriesName
from infra.stores.ledger_log import (
    LOG_COLUMNS,
    NO_LOG,
    LogBody,
    LogPlace,
    body_of_whole,
    ledgers_of,
    not_begun,
)

_PLACE: Final = (
    "SELECT last.seq, last.at_ms, whole.at_ms, length(whole.body), "
    "(SELECT coalesce(sum(length(body)), 0) FROM ledger_log WHERE seq > whole.seq) "
    "FROM (SELECT seq, at_ms FROM ledger_log ORDER BY seq DESC LIMIT 1) AS last, "
    "(SELECT seq, at_ms, body FROM ledger_log WHERE is_whole = 1 ORDER BY seq DESC LIMIT 1) AS whole"
)
_ENTRIES: Final = (
    "SELECT hex(body) AS body FROM ledger_log WHERE seq >= :first AND at_ms <= :at_ms "
    "AND seq < coalesce((SELECT min(seq) FROM ledger_log WHERE is_whole = 1 AND seq > :first), 1 << 62) ORDER BY seq"
)


class LedgerLog:
    """What one write transaction adds to the log: `at_ms` is its time, and that of its revisions."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int, place: LogPlace | None = None) -> None:
        """`place` is where the log ends, where that is known."""
        self._connection = connection
        self._body = LogBody()
        self.place = read_place(connection) if place is None else place
        self.at_ms = self.place.time_of(now_ms)

    def note(self, series: Series | SeriesName, before: Ledger, after: Ledger) -> None:
        """Note that the transaction makes `after` of `before`."""
        name = series if isinstance(series, SeriesName) else SeriesName(series.name, series.interval.code)
        self._body.note(name, before, after)

    def write(self, *, revised: bool = False) -> None:
        """Append the entry, once the ledgers are written. Nothing was `revised` and noted: there is none."""
        if not (self._body or revised):
            return
        is_whole = self.place.needs_whole(self.at_ms)
        body = _whole(self._connection) if is_whole else self._body.packed()
        self.place = self.place.after(self.at_ms, len(body), is_whole=is_whole)
        put(self._connection, "ledger_log", LOG_COLUMNS, [(self.place.seq, self.at_ms, int(is_whole), body)])


def read_place(connection: sqlite3.Connection) -> LogPlace:
    """Where the log ends."""
    row = connection.execute(_PLACE).fetchone()
    return NO_LOG if row is None else LogPlace(*row)


def ledgers_as_of(
    connection: sqlite3.Connection, at_ms: int, wanted: Collection[Series] | None
) -> dict[Series, Ledger]:
    """The ledgers, of `wanted` series or all, after every transaction up to `at_ms`. Raises NotRecorded."""
    select = "SELECT max(seq) FROM ledger_log WHERE is_whole = 1 AND at_ms <= ?"
    [first] = connection.execute(select, (at_ms,)).fetchone()
    if first is None:
        [began_ms] = connection.execute("SELECT min(at_ms) FROM ledger_log WHERE is_whole = 1").fetchone()
        raise not_begun(at_ms, began_ms)
    [texts] = columns(connection, ("body",), _ENTRIES, {"first": first, "at_ms": at_ms})
    names = None if wanted is None else {SeriesName(series.name, series.interval.code) for series in wanted}
    found = ledgers_of(map(bytes.fromhex, texts), names)
    return {named(name.symbol, INTERVALS[name.code]): ledger for name, ledger in found.items()}


def _whole(connection: sqlite3.Connection) -> bytes:
    ledgers = read_ledgers(connection)
    return body_of_whole({SeriesName(each.name, each.interval.code): ledger for each, ledger in ledgers.items()})
