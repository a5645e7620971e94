"""The rules of every store: who may say what, which rows are revisions, which longer rows are void. Pure.

A store commits a batch in one transaction. It asks `claim` what the source is granted and which held rows are
contested, reads those, and executes what `decide` says. When rows changed, longer rows that were rolled up from them
are void: for each series of `longer` it reads the rows of `reach` and executes what `invalidate` says. A store adds no
rule to these.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import Final, NamedTuple

from app.domain.columns import Columns
from app.domain.interval import DAY_MS, INTERVALS
from app.domain.kind import Row
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans

NOTHING: Final = Spans()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one source says of one series: `rows` (ascending, all opening inside `spans`) and the spans it answers for.

    Every grid time in `spans` has its row in `rows`; with source ABSENT there are no rows: the spans are proven empty.
    Of a roll-up, `as_of` is the Committer's epoch from before its parts were read: what changed later voids it. One
    that is committed together with its parts, in a batch of `made_of`, counts only where nothing was known of those:
    otherwise the store may keep other parts than these. `withdraws`: what was recorded absent in `spans` is unknown
    again, because the exchange has klines there after all.
    """

    series: Series
    source: Source
    spans: Spans
    rows: Sequence[Row]
    as_of: int | None = None
    made_of: Series | None = None
    withdraws: bool = False

    def check(self) -> None:
        """Assert what is cheap to see of the contract."""
        opens_ms = self.rows.opens_ms if isinstance(self.rows, Columns) else [row.open_ms for row in self.rows]
        assert self.source is not Source.ABSENT or not opens_ms, f"{self.series}: a span without klines has no rows"
        assert all(map(lt, opens_ms, islice(opens_ms, 1, None))), f"{self.series}: rows are not ascending"
        inside = sum(bisect_left(opens_ms, end_ms) - bisect_left(opens_ms, start_ms) for start_ms, end_ms in self.spans)
        assert inside == len(opens_ms), f"{self.series}: rows outside the spans of their batch"


class Claim(NamedTuple):
    """What the source of a batch may say (`granted`), and where it may replace rows that are held (`contested`)."""

    granted: Spans
    contested: Spans


class Revision(NamedTuple):
    """A held row that is replaced or vanishes, to be kept."""

    row: Row
    old_source: Source
    new_source: Source


class Decision(NamedTuple):
    """What a store does with the rows of one series.

    `ledger` is the one afterwards. `rows` are written over what is there, those that open at `deleted` are deleted, and
    everything in `strays`, of which no ledger line speaks: someone deleted lines. `changed` are the open times of held
    rows that became others or vanished, and of those that were recorded absent and are not any longer: their checks
    are forgotten.
    """

    ledger: Ledger
    granted: Spans
    rows: Sequence[Row] = ()
    deleted: Sequence[int] = ()
    strays: Spans = NOTHING
    revisions: Sequence[Revision] = ()
    changed: Spans = NOTHING


def claim(ledger: Ledger, batch: Batch) -> Claim:
    """What of `batch` counts beside what sources of higher rank have said."""
    if batch.withdraws:
        return Claim(batch.spans & ledger.absent, NOTHING)
    if _is_beyond(batch.spans, ledger):
        return Claim(batch.spans, NOTHING)
    granted = NOTHING
    for span in batch.spans:
        granted |= ledger.claim(span, batch.source)
    return Claim(granted, granted & ledger.held)


def decide(ledger: Ledger, batch: Batch, claimed: Claim, held: Sequence[Row]) -> Decision:
    """What becomes of `batch`, `held` being the stored rows that open inside `claimed.contested`, ascending."""
    granted, contested = claimed
    if not granted:
        return Decision(ledger, granted)
    if batch.withdraws:
        return Decision(ledger.without(granted), granted, changed=granted)
    rows = batch.rows if granted == batch.spans else _within(batch.rows, granted)
    deleted: list[int] = []
    replaced: list[Row] = []
    if contested:
        unwritten = {row.open_ms: row for row in rows}
        for old in held:
            new = unwritten.get(old.open_ms)
            if new == old:
                del unwritten[old.open_ms]
                continue
            replaced.append(old)
            if new is None:
                deleted.append(old.open_ms)
        rows = list(unwritten.values())
    changed = NOTHING
    if not _is_beyond(granted, ledger):
        grid = batch.series.interval.grid
        changed = Spans(Span(row.open_ms, grid.shift(row.open_ms, 1)) for row in replaced)
        if batch.source is not Source.ABSENT:
            changed |= granted & ledger.absent  # what was rolled up without these rows is as wrong as with others
    leaves_strays = batch.source is Source.ABSENT or batch.series.interval.needs_anchor  # rows do not fill the spans
    return Decision(
        ledger.record(granted, batch.source),
        granted,
        rows,
        deleted,
        granted - ledger.held if leaves_strays else NOTHING,
        [_revision(ledger, row, batch.source, batch.series) for row in replaced],
        changed,
    )


def longer(part: Series) -> Iterator[Series]:
    """The series whose rows may have been rolled up from those of `part`."""
    for interval in INTERVALS.values() if part.kind.rolls_up else ():
        if interval.grid.step_ms > part.interval.grid.step_ms:
            yield part.of(interval)


def reach(series: Series, ledger: Ledger, changed: Spans) -> Spans:
    """Where rows of the longer `series` open that may be rolled up from `changed` ones; empty: there are none."""
    if not any(entry.source is Source.ROLLUP for entry in ledger.entries):
        return NOTHING
    before_ms = series.interval.grid.step_ms + DAY_MS  # a row that began before the span may reach into it
    return Spans(Span(max(0, span.start_ms - before_ms), span.end_ms) for span in changed)


def invalidate(series: Series, ledger: Ledger, changed: Spans, held: Sequence[Row], source: Source) -> Decision | None:
    """What becomes of the longer `series` when `source` changed its parts; `held` are its stored rows in `reach`."""
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
    """Whether all of it is newer than the ledger, as what closes is: thousands of times a minute."""
    return bool(spans) and spans.hull.start_ms >= ledger.end_ms


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
