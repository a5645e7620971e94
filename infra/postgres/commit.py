"""The write transaction of batches, which executes what app.domain.store_rules decides.

What is read and written for many series goes into one statement: 600 batches of one row each, as of the klines that
close in one minute, take as many statements as one batch.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final

import asyncpg

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
from infra.blocks.block import Packed
from infra.blocks.sealed_columns import SealedColumns
from infra.postgres.changes import note_spans
from infra.postgres.history import rows_in_spans
from infra.postgres.ledger_log import LedgerLog, read_place
from infra.postgres.ledgers import name_of, read_ledgers_of
from infra.postgres.row_reads import delete_rows, delete_rows_in, put_rows, replaced
from infra.postgres.sealed import block_starts, insert_blocks, open_block, packed, put_blocks, sealed_ends, spans_of
from infra.postgres.statements import arrays, overwrite, put
from infra.postgres.verification import forget_checks
from infra.stores.ledger_lines import LEDGER_COLUMNS, SeriesName, ledger_changes
from infra.stores.ledger_log import LogPlace
from infra.stores.row_tables import revision_table, row_columns
from infra.stores.touched import touched

LEDGERS_KEPT_MAX: Final = 50_000  # series whose ledgers are cached (about 1 kB each); above it the cache is cleared

_OVERWRITE_LINE: Final = overwrite(("symbol", "interval", "start_ms"), ("end_ms", "source"))
_GONE: Final = ("symbol", "interval", "start_ms")
_REVISED: Final = ("symbol", "interval", "old_source", "new_source", "replaced_at_ms")

_Table = tuple[Kind, Interval]
"""The kind and interval whose rows one table contains."""


class Commits:
    """Executes the statements of write transactions, one at a time, and caches the ledgers between them.

    The cache is updated by `keep` after COMMIT. It is cleared when somebody else changed the database, and when there
    is a new connection: it is not known then whether the last COMMIT on the old one came about.
    """

    def __init__(self) -> None:
        self._ledgers: dict[SeriesName, Ledger] = {}
        self._sealed_ends: dict[Series, int] = {}
        self._log: LogPlace | None = None
        self._seen: asyncpg.Connection | None = None

    async def commit(
        self, connection: asyncpg.Connection, batches: Sequence[Batch], now_ms: int
    ) -> tuple[list[Committed], "Transaction"]:
        """Write `batches`; `now_ms` is the transaction's time. Asserts `Batch.check`.

        Called inside a transaction; what it returns second is for `keep`.
        """
        for batch in batches:
            batch.check()
        if self._seen is not connection:
            self.forget()
            self._seen = connection
        log = LedgerLog(connection, now_ms, self._log or await read_place(connection))
        transaction = Transaction(connection, self._ledgers, self._sealed_ends, log)
        await transaction.load({batch.series for batch in batches})
        committed = [await transaction.apply(batch) for batch in batches]
        await transaction.finish()
        await note_spans(connection, touched(batches, committed), now_ms)
        return committed, transaction

    def keep(self, transaction: "Transaction") -> None:
        """Cache the ledgers that `transaction`, which was committed, has left and read."""
        if len(self._ledgers) + len(transaction.after) > LEDGERS_KEPT_MAX:
            self.forget()
        self._log = transaction.log.place
        self._ledgers.update(transaction.read)
        self._ledgers.update(transaction.after)
        self._sealed_ends.update(transaction.sealed_ends)

    def forget(self) -> None:
        """Clear the cache, because other transactions wrote ledgers."""
        self._ledgers.clear()
        self._sealed_ends.clear()
        self._log = None

    def sealed(self, series: Series, span: Span) -> None:
        """Know that the block of `span` exists now."""
        if series in self._sealed_ends:
            self._sealed_ends[series] = max(self._sealed_ends[series], span.end_ms)


class Transaction:
    """A running transaction: its pending writes, and the ledgers after it."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        before: dict[SeriesName, Ledger],
        sealed_ends_before: dict[Series, int],
        log: LedgerLog,
    ) -> None:
        self._connection = connection
        self.log = log
        self._before = before
        self._sealed_ends_before = sealed_ends_before
        self._rows: dict[_Table, list[tuple[str, Sequence[Row]]]] = {}  # pending, by the name of their series
        self._blocks: dict[_Table, dict[str, list[Packed]]] = {}
        self._opened: dict[Series, set[int]] = {}  # the starts of blocks that were turned into rows
        self._revisions: dict[Kind, list[tuple[object, ...]]] = {}
        self._changed: dict[SeriesName, Spans] = {}
        self.read: dict[SeriesName, Ledger] = {}
        self.after: dict[SeriesName, Ledger] = {}
        self.sealed_ends: dict[Series, int] = {}

    async def load(self, wanted: Collection[Series]) -> None:
        """Read the ledgers, and where the newest blocks end, of those of `wanted` that are not known yet."""
        if not wanted:
            return
        names = {name_of(series) for series in wanted}
        names = {each for each in names if each not in self._before and each not in self.read}
        if names:
            self.read |= dict.fromkeys(names, Ledger()) | await read_ledgers_of(self._connection, names)
        ends = [each for each in wanted if each not in self.sealed_ends and each not in self._sealed_ends_before]
        if ends:
            self.sealed_ends |= await sealed_ends(self._connection, ends)

    async def apply(self, batch: Batch) -> Committed:
        """Apply what the source of `batch` may write, on top of the earlier batches of this transaction."""
        series = batch.series
        ledger = self._ledger(series)
        grant = store_rules.grant(ledger, batch)
        held = await self._stored_rows(series, grant.contested) if grant.contested else ()
        decision = store_rules.decide(ledger, batch, grant, held)
        if not decision.granted:
            return Committed(ledger, decision.granted, 0)
        await self._execute(series, decision)
        unheld = [each async for each in self._invalidate(series, decision.changed, batch.source)]
        return Committed(decision.ledger, decision.granted, decision.revised, decision.changed, tuple(unheld))

    async def _invalidate(self, part: Series, changed: Spans, source: Source) -> AsyncIterator[Invalidated]:
        """Delete longer rows that were rolled up from `changed`; the reconciler makes them again."""
        longer = list(store_rules.longer(part)) if changed else []
        await self.load(longer)
        for series in longer:
            ledger = self._ledger(series)
            if not (reach := store_rules.reach(series, ledger, changed)):
                continue
            held = await self._stored_rows(series, reach)
            decision = store_rules.invalidate(series, ledger, changed, held, source)
            if decision is not None:
                await self._execute(series, decision)
                yield Invalidated(series, decision.ledger, decision.changed)

    async def _execute(self, series: Series, decision: Decision) -> None:
        """Execute `decision`. Rows, revisions and checks become pending and are written by `finish` at the latest."""
        name, table = name_of(series), series.table
        await self._open_blocks(series, decision)
        if decision.deleted:
            await delete_rows(self._connection, series, decision.deleted)
        if decision.strays:
            await self._flush(table)
            await delete_rows_in(self._connection, *table, [(series.name, *span) for span in decision.strays])
        self._take(series, decision.rows)
        if decision.revisions:
            self._revisions.setdefault(series.kind, []).extend(
                (*name, *row, old.value, new.value, self.log.at_ms) for row, old, new in decision.revisions
            )
        if decision.changed:
            self._changed[name] = self._changed.get(name, Spans()) | decision.changed
        self.after[name] = decision.ledger

    def _take(self, series: Series, rows: Sequence[Row]) -> None:
        """Blocks and rows become pending."""
        if isinstance(rows, SealedColumns):
            for part in rows.parts:
                if isinstance(part, Columns):
                    self._take(series, part)
                    continue
                self._blocks.setdefault(series.table, {}).setdefault(series.name, []).append(part)
                self.sealed_ends[series] = max(self._sealed_end_ms(series), part.span.end_ms)
        elif rows:
            self._rows.setdefault(series.table, []).append((series.name, rows))

    async def _open_blocks(self, series: Series, decision: Decision) -> None:
        """Turn every block into rows in which `decision` writes or deletes any. `finish` seals them again."""
        rows, deleted, strays = decision.rows, decision.deleted, decision.strays
        written = rows.opens_ms if isinstance(rows, Columns) else [row.open_ms for row in rows]
        firsts_ms = [each[0] for each in (written, deleted) if each] + [span.start_ms for span in strays]
        if not firsts_ms or (first_ms := min(firsts_ms)) >= self._sealed_end_ms(series):
            return
        await self._flush(series.table)
        for start_ms in await block_starts(self._connection, series, Span(first_ms, self._sealed_end_ms(series))):
            span = block_span(series.interval, start_ms)
            if _has(written, span) or _has(deleted, span) or strays.clip(span):
                await open_block(self._connection, series, start_ms)
                self._opened.setdefault(series, set()).add(start_ms)

    async def _seal_again(self) -> None:
        """Seal what was opened, except where rows are missing now: those are sealed when they have come."""
        for series, starts_ms in self._opened.items():
            known = self._ledger(series).known
            for start_ms in starts_ms:
                span = block_span(series.interval, start_ms)
                if known.covers(span) and (block := await packed(self._connection, series, span)) is not None:
                    await insert_blocks(self._connection, *series.table, {series.name: [block]})

    async def _stored_rows(self, series: Series, spans: Spans) -> list[Row]:
        """The rows that open in `spans`, ascending, including those pending in this transaction."""
        await self._flush(series.table)
        found = await rows_in_spans(self._connection, *series.table, {series: list(spans)})
        return found.get(series, [])

    def _ledger(self, series: Series) -> Ledger:
        """The ledger of a series including the changes of this transaction so far."""
        name = name_of(series)
        ledger = self.after.get(name)
        return self._stored(name) if ledger is None else ledger

    def _stored(self, name: SeriesName) -> Ledger:
        """The ledger of a series before this transaction."""
        ledger = self._before.get(name)
        return self.read[name] if ledger is None else ledger

    def _sealed_end_ms(self, series: Series) -> int:
        """Where the newest block of `series` ends, or a later time."""
        end_ms = self.sealed_ends.get(series)
        return self._sealed_ends_before[series] if end_ms is None else end_ms

    async def finish(self) -> None:
        """Write everything that is pending, and then the ledger lines that changed."""
        for table in {*self._rows, *self._blocks}:
            await self._flush(table)
        await self._seal_again()
        for kind, revisions in self._revisions.items():
            names = (*_REVISED[:2], *row_columns(kind), *_REVISED[2:])
            await put(self._connection, revision_table(kind), names, revisions)
        await forget_checks(self._connection, self._changed)
        await self._write_ledgers()
        await self.log.write(revised=bool(self._revisions))

    async def _write_ledgers(self) -> None:
        lines: list[tuple[object, ...]] = []
        gone: list[tuple[object, ...]] = []
        for name, ledger in self.after.items():
            before = self._stored(name)
            changes = ledger_changes(name, before, ledger)
            self.log.note(name, before, ledger)
            lines += changes.lines
            gone += [(*name, start_ms) for start_ms in changes.gone_ms]
        await put(self._connection, "ledger", LEDGER_COLUMNS, lines, _OVERWRITE_LINE)
        if gone:
            await self._connection.execute(
                f"DELETE FROM ledger AS old USING {arrays(_GONE)} AS one ({', '.join(_GONE)}) "
                "WHERE old.symbol = one.symbol AND old.interval = one.interval AND old.start_ms = one.start_ms",
                *zip(*gone, strict=True),
            )

    async def _flush(self, table: _Table) -> None:
        """Write the pending blocks and rows of `table`. A row that is pending lies outside of all of them."""
        blocks, parts = self._blocks.pop(table, {}), self._rows.pop(table, [])
        await delete_rows_in(self._connection, *table, [*spans_of(blocks), *replaced(*table, parts)])
        if blocks:
            await put_blocks(self._connection, table[1], blocks)
        if parts:
            await put_rows(self._connection, *table, parts)


def _has(opens_ms: Sequence[int], span: Span) -> bool:
    """Whether one of `opens_ms`, ascending, lies in `span`."""
    at = bisect_left(opens_ms, span.start_ms)
    return at < len(opens_ms) and opens_ms[at] < span.end_ms
