"""What is kept of the rows in archive files of metrics: what REST no longer has, and what it lacks."""

from collections.abc import Sequence
from typing import Final

from app.binance.statistics_rows import PERIOD_MS
from app.domain.columns import Columns
from app.domain.interval import DAY_MS, HOUR_MS
from app.domain.kind import Row
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.commit import Committer
from app.holding.gaps import SeriesGap, survey
from app.holding.inventory import Inventory
from app.holding.metrics_looks import Looks
from app.holding.wish import REACH_MARGIN_MS
from app.ports.clock import Clock
from app.ports.exchange import FileMetrics
from app.ports.store import StoreReader

SOON_MS: Final = HOUR_MS // 2  # rows that expire so soon are kept too, for REST may not be asked in time


class MetricsKeeping:
    """Commits the rows of archive files. Only the process that writes has one."""

    def __init__(self, clock: Clock, store: StoreReader, committer: Committer, inventory: Inventory) -> None:
        self._clock = clock
        self._store = store
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish

    def gap(self, series: Series) -> SeriesGap:
        """What is wished and what is missing of `series` now."""
        return survey(self._wish(), self._holdings, series, self._clock.now_ms())

    def expired(self, series: Series) -> Span:
        """The open times of which REST has no rows any more, or is not asked for them."""
        reach_ms = series.kind.rest.reach_ms
        assert reach_ms is not None, f"{series.kind.name}: an archive replaces what REST forgets"
        return Span(0, series.interval.grid.ceil(self._clock.now_ms() - reach_ms + REACH_MARGIN_MS))

    async def keep(self, series: Series, found: FileMetrics, looked: Spans, looks: Looks) -> None:
        """Commit the rows of `series`, and which rows of the days `looked` at lack for good. Raises StoreUnavailable.

        Of what REST still has only those rows are kept that it lacks: its own have more columns. `looks`: what was seen
        before, with the first file of the next month.
        """
        ledger, grid = self._holdings.ledger(series), self._holdings.grid(series)
        rows = Columns.of(found.rows.get(series.kind.name, ()))
        replaced = Columns.of(found.replaced.get(series.kind.name, ()))
        given, archived = rows.spans(grid), _from_archive(ledger)
        beaten = _later_files(found, looks) & given & archived
        batches: list[Batch] = []
        for span in beaten:
            held = await self._store.read(series, span, 1)
            loser = rows.between(*span)
            if list(loser) != held.rows:
                batches += [_batch(series, Spans([span]), loser), _batch(series, Spans([span]), held.rows)]
        expired = self.expired(series)
        soon = Span(0, expired.end_ms + SOON_MS)
        if kept := (given & (Spans([soon]) | ledger.absent | archived)) - beaten:
            batches += [_batch(series, Spans([span]), replaced) for span in (replaced.spans(grid) & kept) - archived]
            batches.append(_batch(series, kept, rows))
        if absent := (self.gap(series).missing.clip(expired) & looked) - given:
            batches.append(Batch(series, Source.ABSENT, absent, []))
        if batches:
            await self._committer.commit(batches)


def _batch(series: Series, spans: Spans, rows: Sequence[Row]) -> Batch:
    return Batch(series, Source.ARCHIVE, spans, Columns.of(rows).within(spans))


def _from_archive(ledger: Ledger) -> Spans:
    return Spans(entry.span for entry in ledger.entries if entry.source is Source.ARCHIVE)


def _later_files(found: FileMetrics, looks: Looks) -> Spans:
    """The times in which a later file than those of `found`, read before, counts if it has a row.

    A file may have a row of five minutes before its day, and one of five minutes after it. The later day's file counts.
    """
    days = {file.day_ms for file in found.read}
    spans = []
    for day_ms in days:
        next_ms = day_ms + DAY_MS
        if next_ms in days:
            continue
        spans.append(Span(next_ms, next_ms + PERIOD_MS))
        is_first = (look := looks.get(day_ms)) is None or look.sha256 is None
        if is_first and (later := looks.get(next_ms)) is not None and later.sha256 is not None:
            spans.append(Span(next_ms - PERIOD_MS, next_ms))
    return Spans(spans)
