"""The write transaction of batches, which executes what app.domain.store_rules decides."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final

from app.domain import store_rules
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import Interval
from app.domain.kind import Kind, Row
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch, Decision
from app.ports.store import Committed, Invalidated
from infra.blocks.sealed_columns import SealedColumns
from infra.sqlite.changes import note
from infra.sqlite.history import read_rows
from infra.sqlite.ledger_log import LedgerLog
from infra.sqlite.ledgers import read_ledger
from infra.sqlite.library import sqlite3
from infra.sqlite.row_reads import delete_rows, delete_rows_in
from infra.sqlite.sealed import block_starts, insert_block, open_block, packed, sealed_end_ms
from infra.sqlite.statements import overwrite, put, put_values, writing
from infra.sqlite.verification import forget_checks
from infra.stores.ledger_lines import LEDGER_COLUMNS, SeriesName, ledger_changes
from infra.stores.ledger_log import LogPlace
from infra.stores.row_tables import revision_table, row_columns, row_table

LEDGERS_KEPT_MAX: Final = 50_000  # series whose ledgers are cached (about 1 kB each); above it the cache is cleared

_OVERWRITE_LINE: Final = overwrite(("symbol", "interval", "start_ms"), ("end_ms", "source"))
_REVISED: Final = ("symbol", "interval", "old_source", "new_source", "replaced_at_ms")

_Table = tuple[Kind, Interval]
"""The kind and interval whose rows one table contains."""


class Commits:
    """Executes write transactions, one at a time, and caches the ledgers between them.

    The cache is updated only after COMMIT, and cleared when another connection has changed the database.
    """

    def __init__(self) -> None:
        self._ledgers: dict[SeriesName, Ledger] = {}
        self._sealed_ends: dict[Series, int] = {}
        self._log: LogPlace | None = None
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def commit(self, connection: sqlite3.Connection, batches: Sequence[Batch], now_ms: int) -> list[Committed]:
        """Write `batches` in one transaction; `now_ms` is its time. Asserts `Batch.check`."""
        for batch in batches:
            batch.check()
        with writing(connection):
            self._forget_if_stale(connection)
            log = LedgerLog(connection, now_ms, self._log)
            transaction = _Transaction(connection, self._ledgers, self._sealed_ends, log)
            committed = [transaction.apply(batch) for batch in batches]
            transaction.finish()
            note(connection, batches, committed, now_ms)
        if len(self._ledgers) + len(transaction.after) > LEDGERS_KEPT_MAX:
            self.forget()
        self._log = log.place
        self._ledgers.update(transaction.after)
        self._sealed_ends.update(transaction.sealed_ends)
        return committed

    def forget(self) -> None:
        """Clear the cache, because other transactions of this connection wrote ledgers."""
        self._ledgers.clear()
        self._sealed_ends.clear()
        self._log = None

    def sealed(self, series: Series, span: Span) -> None:
        """Know that the block of `span` exists now."""
        if series in self._sealed_ends:
            self._sealed_ends[series] = max(self._sealed_ends[series], span.end_ms)

    def _forget_if_stale(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]  # changes when others commit
        if self._seen is None or self._seen[0] is not connection or self._seen[1] != version:
            self.forget()
            self._seen = (connection, version)


class _Transaction:
    """A running transaction: its pending writes, and the ledgers after it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        before: dict[SeriesName, Ledger],
        sealed_ends_before: dict[Series, int],
        log: LedgerLog,
    ) -> None:
        self._connection = connection
        self._log = log
        self._before = before
        self._sealed_ends_before = sealed_ends_before
        self._read: dict[SeriesName, Ledger] = {}
        self._values: dict[_Table, list[object]] = {}  # pending rows: all values in one list
        self._opened: dict[Series, set[int]] = {}  # the starts of blocks that were turned into rows
        self._revisions: dict[Kind, list[tuple[object, ...]]] = {}
        self.after: dict[SeriesName, Ledger] = {}
        self.sealed_ends: dict[Series, int] = {}

    def apply(self, batch: Batch) -> Committed:
        """Apply what the source of `batch` may write, on top of the earlier batches of this transaction."""
        series = batch.series
        ledger = self._ledger(series)
        grant = store_rules.grant(ledger, batch)
        held = self._rows(series, grant.contested) if grant.contested else ()
        decision = store_rules.decide(ledger, batch, grant, held)
        if not decision.granted:
            return Committed(ledger, decision.granted, 0)
        self._execute(series, decision)
        unheld = tuple(self._invalidate(series, decision.changed, batch.source)) if decision.changed else ()
        return Committed(decision.ledger, decision.granted, decision.revised, decision.changed, unheld)

    def _invalidate(self, part: Series, changed: Spans, source: Source) -> Iterator[Invalidated]:
        """Delete longer rows that were rolled up from `changed`; the reconciler makes them again."""
        for series in store_rules.longer(part):
            ledger = self._ledger(series)
            if not (reach := store_rules.reach(series, ledger, changed)):
                continue
            decision = store_rules.invalidate(series, ledger, changed, self._rows(series, reach), source)
            if decision is not None:
                self._execute(series, decision)
                yield Invalidated(series, decision.ledger, decision.changed)

    def _execute(self, series: Series, decision: Decision) -> None:
        """Execute `decision`. Rows and revisions become pending and are written by `finish` at the latest."""
        name, table = SeriesName(series.name, series.interval.code), series.table
        self._open_blocks(series, decision)
        if decision.deleted:
            delete_rows(self._connection, series, decision.deleted)
        if decision.strays:
            self._write_rows(table)
            for span in decision.strays:
                delete_rows_in(self._connection, series, span)
        self._take(series, decision.rows)
        if decision.revisions:
            self._revisions.setdefault(series.kind, []).extend(
                (*name, *row, old.value, new.value, self._log.at_ms) for row, old, new in decision.revisions
            )
        if decision.changed:
            forget_checks(self._connection, *name, decision.changed)
        self.after[name] = decision.ledger

    def _take(self, series: Series, rows: Sequence[Row]) -> None:
        """Store blocks; rows become pending."""
        if isinstance(rows, SealedColumns):
            for part in rows.parts:
                if isinstance(part, Columns):
                    self._take(series, part)
                    continue
                insert_block(self._connection, series, part)
                self.sealed_ends[series] = max(self._sealed_end_ms(series), part.span.end_ms)
        elif rows:
            self._values.setdefault(series.table, []).extend(_values(series.name, rows))

    def _open_blocks(self, series: Series, decision: Decision) -> None:
        """Turn every block into rows in which `decision` writes or deletes any. `finish` seals them again."""
        rows, deleted, strays = decision.rows, decision.deleted, decision.strays
        written = rows.opens_ms if isinstance(rows, Columns) else [row.open_ms for row in rows]
        firsts_ms = [each[0] for each in (written, deleted) if each] + [span.start_ms for span in strays]
        if not firsts_ms or (first_ms := min(firsts_ms)) >= self._sealed_end_ms(series):
            return
        for start_ms in block_starts(self._connection, series, Span(first_ms, self._sealed_end_ms(series))):
            span = block_span(series.interval, start_ms)
            if _has(written, span) or _has(deleted, span) or strays.clip(span):
                open_block(self._connection, series, start_ms)
                self._opened.setdefault(series, set()).add(start_ms)

    def _sealed_end_ms(self, series: Series) -> int:
        """Where the newest block of `series` ends, or a later time."""
        end_ms = self.sealed_ends.get(series, self._sealed_ends_before.get(series))
        if end_ms is None:
            end_ms = self.sealed_ends[series] = sealed_end_ms(self._connection, series)
        return end_ms

    def _seal_again(self) -> None:
        """Seal what was opened, except where rows are missing now: those are sealed when they have come."""
        for series, starts_ms in self._opened.items():
            known = self._ledger(series).known
            for start_ms in starts_ms:
                span = block_span(series.interval, start_ms)
                if known.covers(span) and (block := packed(self._connection, series, span)) is not None:
                    insert_block(self._connection, series, block)

    def _rows(self, series: Series, spans: Spans) -> list[Row]:
        """The rows that open in `spans`, ascending, including those pending in this transaction."""
        self._write_rows(series.table)
        return [row for span in spans for row in read_rows(self._connection, series, span)]

    def _ledger(self, series: Series) -> Ledger:
        """The ledger of a series including the changes of this transaction so far."""
        name = SeriesName(series.name, series.interval.code)
        return self.after.get(name) or self._stored(name)

    def finish(self) -> None:
        """Write everything that is pending, and then the ledger lines that changed."""
        for table in list(self._values):
            self._write_rows(table)
        self._seal_again()
        for kind, revisions in self._revisions.items():
            names = (*_REVISED[:2], *row_columns(kind), *_REVISED[2:])
            put(self._connection, revision_table(kind), names, revisions)
        lines: list[tuple[object, ...]] = []
        for name, ledger in self.after.items():
            before = self._stored(name)
            changes = ledger_changes(name, before, ledger)
            self._log.note(name, before, ledger)
            lines.extend(changes.lines)
            if changes.gone_ms:
                self._connection.execute(
                    "DELETE FROM ledger WHERE symbol = ? AND interval = ? "
                    "AND start_ms IN (SELECT value FROM json_each(?))",
                    (*name, json.dumps(changes.gone_ms)),
                )
        put(self._connection, "ledger", LEDGER_COLUMNS, lines, _OVERWRITE_LINE)
        self._log.write(revised=bool(self._revisions))

    def _stored(self, name: SeriesName) -> Ledger:
        """The ledger of a series before this transaction."""
        ledger = self._before.get(name) or self._read.get(name)
        if ledger is None:
            ledger = self._read[name] = read_ledger(self._connection, *name)
        return ledger

    def _write_rows(self, table: _Table) -> None:
        names, upsert = row_columns(table[0]), _upsert(table[0])
        if values := self._values.pop(table, None):
            put_values(self._connection, row_table(*table), ("symbol", *names), values, upsert)


def _values(symbol: str, rows: Sequence[Row]) -> Iterable[object]:
    if isinstance(rows, Columns):
        return rows.values(symbol)
    return chain.from_iterable((symbol, *row) for row in rows)


def _has(opens_ms: Sequence[int], span: Span) -> bool:
    """Whether one of `opens_ms`, ascending, lies in `span`."""
    at = bisect_left(opens_ms, span.start_ms)
    return at < len(opens_ms) and opens_ms[at] < span.end_ms


@cache
def _upsert(kind: Kind) -> str:
    """The upsert clause by which a row of `kind` replaces the one with the same symbol and open time."""
    return overwrite(("symbol", "open_time"), row_columns(kind)[1:])
