"""One write transaction: batches become rows, ledger lines and revisions together."""

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import lt
from typing import Final

from app.domain.columns import Columns
from app.domain.interval import D3, DAY_MS, INTERVALS, Interval
from app.domain.kind import Kind, Row
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.ports.store import Batch, Committed, Invalidated
from infra.db.changes import note
from infra.db.ledgers import SeriesName, read_ledger
from infra.db.row_tables import revision_table, row_columns, row_table
from infra.db.sqlite_image import SqliteImage, attached
from infra.db.statements import delete_rows, overwrite, put, put_values, read_rows, writing
from infra.db.verification import forget_checks

LEDGERS_KEPT_MAX: Final = 50_000  # series whose ledger the writer remembers (about 1 kB each); all are dropped above it

_LEDGER_COLUMNS: Final = ("symbol", "interval", "start_ms", "end_ms", "source")
_OVERWRITE_LINE: Final = overwrite(("symbol", "interval", "start_ms"), ("end_ms", "source"))
_REVISED: Final = ("symbol", "interval", "old_source", "new_source", "replaced_at_ms")

_Table = tuple[Kind, Interval]
"""Whose rows a table keeps."""


class Commits:
    """The write transactions of one connection at a time, and the ledgers it knows without asking.

    What is remembered is dropped when the database was changed by anyone else, and updated after COMMIT only.
    """

    def __init__(self) -> None:
        self._ledgers: dict[SeriesName, Ledger] = {}
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def commit(self, connection: sqlite3.Connection, batches: Sequence[Batch], now_ms: int) -> list[Committed]:
        """Write `batches`, which must keep the contract of app.ports.store.Batch; revisions are dated `now_ms`."""
        for batch in batches:
            _check(batch)
        with attached(connection, batches) as schemas, writing(connection):
            self._forget_if_stale(connection)
            transaction = _Transaction(connection, self._ledgers, now_ms, schemas)
            committed = [transaction.apply(batch) for batch in batches]
            transaction.finish()
            note(connection, batches, committed, now_ms)
        if len(self._ledgers) + len(transaction.after) > LEDGERS_KEPT_MAX:
            self._ledgers.clear()
        self._ledgers.update(transaction.after)
        return committed

    def forget(self) -> None:
        """Ledgers were written past these transactions."""
        self._ledgers.clear()

    def _forget_if_stale(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]  # changes when others commit
        if self._seen is None or self._seen[0] is not connection or self._seen[1] != version:
            self._ledgers.clear()
            self._seen = (connection, version)


class _Transaction:
    """What one transaction has written, or still has to, and the ledgers as it leaves them."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        before: dict[SeriesName, Ledger],
        now_ms: int,
        schemas: Mapping[int, str],
    ) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._schemas = schemas
        self._before = before
        self._read: dict[SeriesName, Ledger] = {}
        self._values: dict[_Table, list[object]] = {}  # of the rows to write, one after the other
        self._images: dict[_Table, list[tuple[str, SqliteImage]]] = {}  # and the ones to copy, each with its name
        self._revisions: dict[Kind, list[tuple[object, ...]]] = {}
        self.after: dict[SeriesName, Ledger] = {}

    def apply(self, batch: Batch) -> Committed:
        """Take in what `batch` may say, seeing what earlier batches said."""
        series, interval = batch.series, batch.series.interval
        name = SeriesName(series.name, interval.code)
        ledger = self.after.get(name) or self._stored(name)
        if batch.withdraws:
            return self._withdraw(batch, name, ledger)
        granted = _granted(ledger, batch)
        if not granted:
            return Committed(ledger, granted, 0)
        rows: Sequence[Row] = batch.rows if granted == batch.spans else _within(batch.rows, granted)
        changed: list[Row] = []
        if overlap := granted & ledger.held:
            rows, changed = self._revise(batch, rows, overlap, ledger)
        if batch.source is Source.ABSENT or interval is D3:
            self._delete_strays(batch.series, granted - ledger.held)
        if isinstance(rows, SqliteImage) and id(rows.pages) in self._schemas:
            self._images.setdefault(series[::2], []).append((name.symbol, rows))
        elif rows:
            self._values.setdefault(series[::2], []).extend(_values(name.symbol, rows))
        spans = Spans(Span(row.open_ms, interval.grid.shift(row.open_ms, 1)) for row in changed)
        if batch.source is not Source.ABSENT:
            spans |= granted & ledger.absent  # what was rolled up without these klines is as wrong as with others
        ledger = self.after[name] = ledger.record(granted, batch.source)
        if not spans:
            return Committed(ledger, granted, 0)
        forget_checks(self._connection, *name, spans)
        return Committed(ledger, granted, len(changed), spans, tuple(self._unhold(batch.series, spans, batch.source)))

    def _withdraw(self, batch: Batch, name: SeriesName, ledger: Ledger) -> Committed:
        """What was recorded absent in the batch's spans is unknown again."""
        gone = batch.spans & ledger.absent
        if not gone:
            return Committed(ledger, gone, 0)
        ledger = self.after[name] = ledger.without(gone)
        forget_checks(self._connection, *name, gone)
        return Committed(ledger, gone, 0, gone, tuple(self._unhold(batch.series, gone, batch.source)))

    def finish(self) -> None:
        """Write what is still pending, last the ledger lines that changed."""
        for table in {*self._values, *self._images}:
            self._write_rows(table)
        for kind, revisions in self._revisions.items():
            names = (*_REVISED[:2], *row_columns(kind), *_REVISED[2:])
            put(self._connection, revision_table(kind), names, revisions)
        lines: list[tuple[object, ...]] = []
        for name, ledger in self.after.items():
            old, new = self._stored(name).entries, ledger.entries
            changed = set(new).difference(old)
            lines.extend((*name, *entry.span, entry.source.value) for entry in changed)
            starts_ms = {entry.span.start_ms for entry in set(old).difference(new)}
            if gone := starts_ms.difference(entry.span.start_ms for entry in changed):
                self._connection.execute(
                    "DELETE FROM ledger WHERE symbol = ? AND interval = ? "
                    "AND start_ms IN (SELECT value FROM json_each(?))",
                    (*name, json.dumps(sorted(gone))),
                )
        put(self._connection, "ledger", _LEDGER_COLUMNS, lines, _OVERWRITE_LINE)

    def _stored(self, name: SeriesName) -> Ledger:
        """The ledger of a series as it was when the transaction began."""
        ledger = self._before.get(name) or self._read.get(name)
        if ledger is None:
            ledger = self._read[name] = read_ledger(self._connection, *name)
        return ledger

    def _revise(self, batch: Batch, rows: Sequence[Row], overlap: Spans, ledger: Ledger) -> tuple[list[Row], list[Row]]:
        """Keep held rows in `overlap` that `rows` change as revisions; the rows still to write, and the old ones."""
        self._write_rows(batch.series[::2])
        unwritten = {row.open_ms: row for row in rows}
        vanished: list[int] = []
        changed: list[Row] = []
        for span in overlap:
            for old in read_rows(self._connection, batch.series, span):
                new = unwritten.get(old.open_ms)
                if new == old:
                    del unwritten[old.open_ms]
                    continue
                changed.append(old)
                self._keep_revision(batch.series, old, ledger, batch.source)
                if new is None:
                    vanished.append(old.open_ms)
        if vanished:
            delete_rows(self._connection, batch.series, vanished)
        return list(unwritten.values()), changed

    def _keep_revision(self, series: Series, old: Row, ledger: Ledger, new_source: Source) -> None:
        old_source = ledger.source_at(old.open_ms)
        assert old_source is not None, f"{series}: a held row without a ledger line"
        name = (series.name, series.interval.code)
        revisions = self._revisions.setdefault(series.kind, [])
        revisions.append((*name, *old, old_source.value, new_source.value, self._now_ms))

    def _unhold(self, part: Series, changed: Spans, source: Source) -> Iterator[Invalidated]:
        """Let go of the longer klines that were rolled up from changed ones; the reconciler makes them anew."""
        for interval in INTERVALS.values() if part.kind.rolls_up else ():
            if interval.grid.step_ms <= part.interval.grid.step_ms:
                continue
            series = part.of(interval)
            name = SeriesName(part.name, interval.code)
            ledger = self.after.get(name) or self._stored(name)
            rolled = Spans(entry.span for entry in ledger.entries if entry.source is Source.ROLLUP)
            if not rolled:
                continue
            self._write_rows(series[::2])
            stale: dict[int, Row] = {}
            for span in changed:  # a kline that began before the span may reach into it
                around = Span(span.start_ms - interval.grid.step_ms - DAY_MS, span.end_ms)
                for row in read_rows(self._connection, series, around):
                    bucket = Span(row.open_ms, interval.grid.shift(row.open_ms, 1))
                    if bucket.clip(span) and rolled.covers(bucket):
                        stale[row.open_ms] = row
            if not stale:
                continue
            for row in stale.values():
                self._keep_revision(series, row, ledger, source)
            delete_rows(self._connection, series, list(stale))
            spans = Spans(Span(open_ms, interval.grid.shift(open_ms, 1)) for open_ms in stale)
            forget_checks(self._connection, *name, spans)
            ledger = self.after[name] = ledger.without(spans)
            yield Invalidated(series, ledger, spans)

    def _delete_strays(self, series: Series, unheld: Spans) -> None:
        """Delete rows that no ledger line speaks of (someone deleted lines) where no new row will overwrite them."""
        self._write_rows(series[::2])
        for span in unheld:
            self._connection.execute(
                f"DELETE FROM {row_table(*series[::2])} WHERE symbol = ? AND open_time >= ? AND open_time < ?",  # noqa: S608  constant
                (series.name, *span),
            )

    def _write_rows(self, table: _Table) -> None:
        names = row_columns(table[0])
        upsert = overwrite(("symbol", "open_time"), names[1:])
        if values := self._values.pop(table, None):
            put_values(self._connection, row_table(*table), ("symbol", *names), values, upsert)
        for name, image in self._images.pop(table, ()):
            image.copy_into(self._connection, self._schemas[id(image.pages)], name, upsert)


def _check(batch: Batch) -> None:
    """Assert what is cheap to see of a batch's contract."""
    opens_ms = batch.rows.opens_ms if isinstance(batch.rows, Columns) else [row.open_ms for row in batch.rows]
    assert batch.source is not Source.ABSENT or not opens_ms, f"{batch.series}: a span without klines has no rows"
    assert all(map(lt, opens_ms, islice(opens_ms, 1, None))), f"{batch.series}: rows are not ascending"
    inside = sum(bisect_left(opens_ms, end_ms) - bisect_left(opens_ms, start_ms) for start_ms, end_ms in batch.spans)
    assert inside == len(opens_ms), f"{batch.series}: rows outside the spans of their batch"


def _granted(ledger: Ledger, batch: Batch) -> Spans:
    granted = Spans()
    for span in batch.spans:
        granted |= ledger.claim(span, batch.source)
    return granted


def _within(rows: Sequence[Row], spans: Spans) -> Sequence[Row]:
    """The rows (ascending) that open inside `spans`."""
    if isinstance(rows, Columns):
        return rows.within(spans)
    kept: list[Row] = []
    for start_ms, end_ms in spans:
        first = bisect_left(rows, start_ms, key=_open_ms)
        kept.extend(rows[first : bisect_left(rows, end_ms, lo=first, key=_open_ms)])
    return kept


def _values(symbol: str, rows: Sequence[Row]) -> Iterable[object]:
    if isinstance(rows, Columns):
        return rows.values(symbol)
    return chain.from_iterable((symbol, *row) for row in rows)


def _open_ms(row: Row) -> int:
    return row.open_ms
