"""The only write path to the store; each commit also updates the ledger in memory, the tail and the cached pages."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from app.domain.columns import Columns
from app.domain.interval import M1
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import Observe, RowsCommitted
from app.holding.copies import Copies
from app.kinds.registry import KINDS
from app.ports.store import EVERYTHING, Committed, Relisting, StoreWriter
from app.ports.tracing import Traced, untraced

CHANGES_MAX: Final = 10_000  # changes remembered; a roll-up whose epoch is older than all of them is not written

Changed = Callable[[Series, Spans], None]
"""Called with a series and the spans of its replaced rows: everything derived from those rows is invalid."""


class _Change(NamedTuple):
    epoch: int
    series: Series
    spans: Spans


class Committer:
    """Commits batches, one transaction at a time, and updates or invalidates every copy of the rows in memory."""

    def __init__(
        self,
        store: StoreWriter,
        copies: Copies,
        observe: Observe,
        changed: Changed = lambda series, spans: None,
        traced: Traced = untraced,
    ) -> None:
        self._store = store
        self._symbols = copies.symbols
        self._holdings = copies.ledgers
        self._tail = copies.tail
        self._drop = copies.drop
        self._observe = observe
        self._changed = changed
        self._traced = traced
        self._lock = asyncio.Lock()  # a change must be recorded before the next roll-up is committed
        self._turn = asyncio.Lock()  # for commits that can wait: at most one of them delays klines that just closed
        self._changes: deque[_Change] = deque(maxlen=CHANGES_MAX)
        self.epoch = 0
        """Incremented whenever rows are replaced; a roll-up notes the epoch before it reads its parts."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write `batches` in one transaction. Raises StoreUnavailable: nothing was written and no copy changed."""
        async with self._turn:
            return await self.commit_first(batches)

    async def commit_first(self, batches: Sequence[Batch]) -> list[Committed]:
        """Like `commit`, but ahead of its waiting callers: for klines that just closed, which readers wait for."""
        async with self._lock:
            batches = [batch for each in batches if (batch := self._still_true(each)).spans]
            if not batches:
                return []
            with self._traced("commit", {"klinenode.batches": len(batches), "klinenode.rows": _rows(batches)}):
                results = await self._store.commit(batches)
            for batch, result in zip(batches, results, strict=True):
                self._tell(batch, result)
        return results

    async def save_anchor(self, name: str, open_ms: int) -> None:
        """Save one open time of the symbol's 3d grid, its anchor. Raises StoreUnavailable."""
        await self._store.save_anchor(name, open_ms)
        self._holdings.set_anchor(name, open_ms)

    async def relist(self, relisting: Relisting) -> None:
        """Separate the former listing's rows from a name that another listing has now. Raises StoreUnavailable."""
        async with self._turn, self._lock:
            ledgers = await self._store.relist(relisting)
            symbol = relisting.listing.symbol
            of_symbol = [Series(kind, kind.whose(symbol), M1) for kind in relisting.firsts]
            self._holdings.relisted(relisting.listing, ledgers, [series.name for series in of_symbol])
            self.epoch += 1  # rejects pending roll-ups of the former listing's klines
            self._changes += (_Change(self.epoch, series, Spans([EVERYTHING])) for series in of_symbol)

    async def unlist(self, listing: Listing, since_ms: int) -> None:
        """Undo a relisting: the exchange does have klines of the name before `since_ms`. Raises StoreUnavailable."""
        async with self._turn, self._lock:
            for series, ledger in (await self._store.unlist(listing, since_ms)).items():
                self._holdings.set_ledger(series, ledger)
            self.epoch += 1  # rejects pending roll-ups of minutes recorded absent
            self._changes += (
                _Change(self.epoch, Series(kind, kind.whose(listing.symbol), M1), Spans([EVERYTHING]))
                for kind in KINDS.values()
            )

    async def give_up(self, series: Series, span: Span) -> bool:
        """Delete the sealed block of `span` if it is damaged; whether it was. Raises StoreUnavailable."""
        async with self._turn, self._lock:
            ledger = await self._store.give_up(series, span)
            if ledger is None:
                return False
            self._holdings.set_ledger(series, ledger)
            self._tail.lose(series)  # its rows may have been read from the block, as may pending roll-ups
            self._drop(series, span)
            self.epoch += 1
            self._changes.append(_Change(self.epoch, series, Spans([span])))
            self._changed(series, Spans([span]))
        return True

    def _still_true(self, batch: Batch) -> Batch:
        """The batch without another listing's klines and without roll-ups whose parts differ from the rows held.

        The archive keeps a former listing's files under the same name, and one file may have klines of both listings.
        Socket klines wait while the store cannot be written to; meanwhile the name may have become another coin's.
        """
        if self._is_printed_otherwise(batch):
            self._tail.lose(batch.series)  # it may serve them
            self._drop(batch.series, batch.spans.hull)
            return replace(batch, spans=Spans(), rows=())
        void = self._void(batch)
        if not void:
            return batch
        grid = self._holdings.grid(batch.series)
        stale = Spans(
            Span(kline.open_ms, end_ms)
            for kline in batch.rows
            if void.clip(Span(kline.open_ms, end_ms := grid.shift(kline.open_ms, 1)))
        )
        if not batch.rows:  # a proof of absence, derived from parts that are no longer known
            stale = Spans(
                Span(grid.floor(start_ms), grid.ceil(end_ms)) for start_ms, end_ms in void.clip(batch.spans.hull)
            )
        spans = batch.spans - stale
        return replace(batch, spans=spans, rows=[kline for kline in batch.rows if spans.span_at(kline.open_ms)])

    def _is_printed_otherwise(self, batch: Batch) -> bool:
        """Whether the batch was printed with other decimals than the exchange's list states now."""
        listed = self._symbols.listing(batch.series.symbol) if batch.precision is not None else None
        return listed is not None and listed.precision != batch.precision

    def _void(self, batch: Batch) -> Spans:
        """The spans where the batch has a former listing's klines, or a roll-up of parts other than the ones held."""
        since_ms = self._holdings.since_ms.get(batch.series.symbol, 0)
        if batch.source in (Source.ARCHIVE, Source.WS):
            return _before(since_ms)
        if batch.made_of is not None:
            return self._holdings.ledger(batch.made_of).known.clip(batch.spans.hull) | _before(since_ms)
        if batch.as_of is None or batch.as_of == self.epoch:
            return Spans()
        if self._changes and self._changes[0].epoch > batch.as_of + 1:
            return batch.spans
        return Spans(
            span
            for epoch, series, spans in self._changes
            if epoch > batch.as_of and _is_part(series, batch.series)
            for span in spans
        )

    def _tell(self, batch: Batch, result: Committed) -> None:
        series = batch.series
        self._holdings.set_ledger(series, result.ledger)
        if not result.granted:
            return
        granted = batch.rows
        if result.granted != batch.spans:
            granted = Columns.of(granted).within(result.granted)
        self._tail.amend(series, self._holdings.grid(series), granted)
        touched = result.granted.hull
        self._drop(series, touched)
        if result.changed:
            self._tell_changed(series, result)
        self._observe(
            RowsCommitted(series.name, series.interval.code, batch.source, len(granted), touched, result.revised)
        )

    def _tell_changed(self, series: Series, result: Committed) -> None:
        self.epoch += 1
        self._changes.append(_Change(self.epoch, series, result.changed))
        self._holdings.note_changed(series, result.changed, result.revised)
        for longer, ledger, spans in result.unheld:
            self._holdings.set_ledger(longer, ledger)
            grid = self._holdings.grid(longer)
            self._holdings.note_changed(longer, spans, sum(grid.count(*span) for span in spans))
            self._drop(longer, spans.hull)
        self._tail.void(series, result.changed)
        self._changed(series, result.changed)


def _rows(batches: Sequence[Batch]) -> int:
    return sum(len(batch.rows) for batch in batches)


def _before(time_ms: int) -> Spans:
    return Spans([Span(0, time_ms)]) if time_ms else Spans()


def _is_part(part: Series, whole: Series) -> bool:
    return part.name == whole.name and part.interval.grid.step_ms < whole.interval.grid.step_ms
