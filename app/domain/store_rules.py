"""The rules by which every store turns a batch into rows to write, delete and keep as revisions. Pure.

A store commits a batch in one transaction. It calls `grant` for the spans that the source may write and those where
held rows may be replaced, reads these rows, and executes what `decide` returns. If held rows changed, longer rows that
were rolled up from them are invalid: for each series of `longer` the store reads the rows in `reach` and executes what
`invalidate` returns. A store adds no rule of its own.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import Final, NamedTuple

from app.domain.columns import Columns
from app.domain.interval import DAY_MS, INTERVALS
from app.domain.kind import Row
from app.domain.kline import Precision
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans

NOTHING: Final = Spans()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one source reports about one series: `spans`, and the `rows` (ascending) that open inside them.

    Every grid time in `spans` has its row in `rows`, but of sparse kinds, of which `rows` are all that open in `spans`.
    With source ABSENT there are no rows: the spans are proven empty.
    """

    series: Series
    source: Source
    spans: Spans
    rows: Sequence[Row]
    as_of: int | None = None
    """Of a roll-up: the Committer's epoch before its parts were read. A later change of the parts invalidates it."""
    made_of: Series | None = None
    """Of a roll-up committed together with its parts: their series. The roll-up counts only where these parts were
    unknown before: if the store holds a minute from REST, it keeps that one, and not the file's that was rolled up."""
    precision: Precision | None = None
    """Of rows that this process brought to REST's form: the decimals of their numbers. The Committer rejects them when
    the exchange's list has come to state others: the symbol may be another coin, and is printed differently."""
    withdraws: bool = False
    """Makes the absent parts of `spans` unknown, because the exchange has klines there after all."""

    def check(self) -> None:
        """Assert the parts of the contract that are cheap to check."""
        opens_ms = self.rows.opens_ms if isinstance(self.rows, Columns) else [row.open_ms for row in self.rows]
        assert self.source is not Source.ABSENT or not opens_ms, f"{self.series}: a span without klines has no rows"
        is_ascending = isinstance(opens_ms, range) or all(map(lt, opens_ms, islice(opens_ms, 1, None)))
        assert is_ascending, f"{self.series}: rows are not ascending"
        inside = sum(bisect_left(opens_ms, end_ms) - bisect_left(opens_ms, start_ms) for start_ms, end_ms in self.spans)
        assert inside == len(opens_ms), f"{self.series}: rows outside the spans of their batch"


class Grant(NamedTuple):
    """The spans that the source of a batch may write (`granted`), and those of them with held rows (`contested`)."""

    granted: Spans
    contested: Spans


class Revision(NamedTuple):
    """A held row that is replaced or deleted, and is kept in the revisions.

    With `old_source` ABSENT it is the row of an event that came late, into a step of the grid that was held without it.
    """

    row: Row
    old_source: Source
    new_source: Source


class Decision(NamedTuple):
    """What a store has to do with the rows of one series.

    `ledger` is the ledger afterwards. `rows` overwrite the rows with the same open time. Rows that open at `deleted` or
    inside `strays` are deleted; strays are rows without a ledger line, as after somebody deleted lines. `changed` are
    the spans of held rows that were replaced or deleted, and of times that were recorded absent and no longer are;
    their verification records are deleted.
    """

    ledger: Ledger
    granted: Spans
    rows: Sequence[Row] = ()
    deleted: Sequence[int] = ()
    strays: Spans = NOTHING
    revisions: Sequence[Revision] = ()
    changed: Spans = NOTHING

    @property
    def revised(self) -> int:
        """How many held rows are replaced or deleted."""
        return sum(each.old_source is not Source.ABSENT for each in self.revisions)


def grant(ledger: Ledger, batch: Batch) -> Grant:
    """The spans of `batch` that no source of higher rank has written, and where they meet held rows."""
    if batch.withdraws:
        return Grant(batch.spans & ledger.absent, NOTHING)
    if _is_beyond(batch.spans, ledger):
        return Grant(batch.spans, NOTHING)
    granted = batch.spans - ledger.above(batch.source)
    return Grant(granted, granted & ledger.held)


def decide(ledger: Ledger, batch: Batch, grant: Grant, held: Sequence[Row]) -> Decision:
    """How to store `batch`; `held` are the stored rows that open inside `grant.contested`, ascending."""
    granted, contested = grant
    if not granted:
        return Decision(ledger, granted)
    if batch.withdraws:
        return Decision(ledger.without(granted), granted, changed=granted)
    rows = batch.rows if granted == batch.spans else _within(batch.rows, granted)
    deleted: list[int] = []
    replaced: list[Row] = []
    late: list[Revision] = []
    if contested:
        unwritten = {row.open_ms: row for row in rows}
        is_kept = _kept(batch.series, rows)
        for old in held:
            new = unwritten.get(old.open_ms)
            if new == old:
                del unwritten[old.open_ms]
                continue
            if new is None and is_kept(old):
                continue
            replaced.append(old)
            if new is None:
                deleted.append(old.open_ms)
        rows = list(unwritten.values())
        if batch.series.kind.is_sparse:
            late = _late(contested, rows, replaced, batch.source)
    changed = NOTHING
    if not _is_beyond(granted, ledger):
        grid = batch.series.interval.grid
        steps_ms = {grid.floor(row.open_ms) for row in replaced}
        changed = Spans(Span(open_ms, grid.shift(open_ms, 1)) for open_ms in steps_ms)
        if batch.source is not Source.ABSENT:
            changed |= granted & ledger.absent  # a roll-up made without these rows is as wrong as one of replaced rows
    is_filled = not (batch.source is Source.ABSENT or batch.series.interval.needs_anchor or batch.series.kind.is_sparse)
    return Decision(
        ledger.record(granted, batch.source),
        granted,
        rows,
        deleted,
        NOTHING if is_filled else granted - ledger.held,
        [*(_revision(ledger, row, batch.source, batch.series) for row in replaced), *late],
        changed,
    )


def longer(part: Series) -> Iterator[Series]:
    """The series of longer intervals whose rows may have been rolled up from those of `part`."""
    for interval in INTERVALS.values() if part.kind.rolls_up else ():
        if interval.grid.step_ms > part.interval.grid.step_ms:
            yield part.of(interval)


def reach(series: Series, ledger: Ledger, changed: Spans) -> Spans:
    """Where rows of the longer `series` may open that were rolled up from `changed`; empty if it has no roll-ups."""
    if not any(entry.source is Source.ROLLUP for entry in ledger.entries):
        return NOTHING
    before_ms = series.interval.grid.step_ms + DAY_MS  # a row that began before the span may reach into it
    return Spans(Span(max(0, span.start_ms - before_ms), span.end_ms) for span in changed)


def invalidate(series: Series, ledger: Ledger, changed: Spans, held: Sequence[Row], source: Source) -> Decision | None:
    """How to delete the roll-ups of `series` made of `changed`, which `source` replaced; None if there are none.

    `held` are the stored rows of `series` that open in `reach`.
    """
    rolled = Spans(entry.span for entry in ledger.entries if entry.source is Source.ROLLUP)
    grid = series.interval.grid
    stale = []
    for row in held:
        bucket = Span(row.open_ms, grid.shift(row.open_ms, 1))
        if changed.clip(bucket) and rolled.covers(bucket):
            stale.append(row)
    if not stale:
        return None
    spans = Spans(Span(row.open_ms, grid.shift(row.open_ms, 1)) for row in stale)
    return Decision(
        ledger.without(spans),
        spans,
        deleted=[row.open_ms for row in stale],
        revisions=[_revision(ledger, row, source, series) for row in stale],
        changed=spans,
    )


def _is_beyond(spans: Spans, ledger: Ledger) -> bool:
    """Whether all `spans` are newer than the ledger, as those of klines that just closed: thousands a minute."""
    return bool(spans) and spans.hull.start_ms >= ledger.end_ms


def _kept(series: Series, rows: Sequence[Row]) -> Callable[[Row], bool]:
    """Whether a held row that is not among the new `rows` stays.

    An event stays that the exchange lacks now, as after it has lost some of its history for an hour. It goes if others
    have come in its step of the grid: then its time was corrected.
    """
    if not series.kind.is_sparse:
        return lambda _: False
    floor = series.interval.grid.floor
    steps_ms = {floor(row.open_ms) for row in rows}
    return lambda old: floor(old.open_ms) not in steps_ms


def _late(contested: Spans, rows: Sequence[Row], replaced: Sequence[Row], source: Source) -> list[Revision]:
    """The revisions of events among `rows` that come into held steps and replace no event of the same time."""
    known_ms = {row.open_ms for row in replaced}
    return [
        Revision(row, Source.ABSENT, source)
        for row in rows
        if row.open_ms not in known_ms and contested.span_at(row.open_ms) is not None
    ]


def _revision(ledger: Ledger, row: Row, new_source: Source, series: Series) -> Revision:
    old_source = ledger.source_at(row.open_ms)
    assert old_source is not None, f"{series}: a held row without a ledger line"
    return Revision(row, old_source, new_source)


def _within(rows: Sequence[Row], spans: Spans) -> Sequence[Row]:
    """The rows (ascending) that open inside `spans`."""
    if isinstance(rows, Columns):
        return rows.within(spans)
    kept: list[Row] = []
    for start_ms, end_ms in spans:
        first = bisect_left(rows, start_ms, key=_open_ms)
        kept.extend(rows[first : bisect_left(rows, end_ms, lo=first, key=_open_ms)])
    return kept


def _open_ms(row: Row) -> int:
    return row.open_ms
