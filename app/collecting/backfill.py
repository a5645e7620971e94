"""Filling the holes of a feed with a sequence by REST, and what it takes to call one lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from app.collecting.outlet import Outlet
from app.collecting.pause import Pause
from app.collecting.sequence_spans import SequenceSpan, SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.records import Feed, Gap, GapState

HOLES_MAX: Final = 500
"""Holes of one feed under repair; a feed with more has lost its exchange, and the oldest hole is confirmed."""
ABSENT_AGAIN_MS: Final = 10_000
"""A page that shows both neighbours and not what is between is asked for again: exchanges' own copies lag."""
EMPTY_ANSWERS_MIN: Final = 5
EMPTY_FOR_MS: Final = 600_000
"""Answers that show no neighbour prove little: only so many of them over ten minutes confirm a gap."""


@dataclass(slots=True)
class _OpenGap:
    span: SequenceSpan
    reason: GapReason
    lost: SequenceSpans = field(default_factory=SequenceSpans)


class _Evidence(NamedTuple):
    first_ms: int
    next_ms: int
    answers: int


class Backfill:
    """The open gaps of one feed. `known` is shared with the feed's rules: what is in it is published or lost."""

    def __init__(self, feed: Feed, known: SequenceSpans, outlet: Outlet, chance: Random) -> None:
        self._feed = feed
        self._known = known
        self._outlet = outlet
        self._gaps: list[_OpenGap] = []
        self._absent: dict[tuple[int, int], _Evidence] = {}
        self._empty: dict[tuple[int, int], _Evidence] = {}
        self._asked: SequenceSpan | None = None
        self.is_asking = False
        """Whether a request of the feed is under way: for a piece of a hole, or another one."""
        self.pause = Pause(chance)

    @property
    def open_gaps(self) -> int:
        """How many gaps are announced and neither closed nor confirmed."""
        return len(self._gaps)

    def restore(self, spans: Iterable[SequenceSpan], reason: GapReason, now_ms: int) -> None:
        """Go on with gaps that a former run, or a former following of the feed, has announced.

        What lies below the first that is known is of a former count: nobody can fetch it.
        """
        for span in spans:
            if span.first < self._known.first:
                past = span._replace(end=min(span.end, self._known.first))
                self._outlet.gap(self._gap(GapState.CONFIRMED, GapReason.RESET, past, now_ms))
            if span.end > self._known.first:
                self.open(span._replace(first=max(span.first, self._known.first)), reason, now_ms)
        self.settle(now_ms)

    def leave(self, holes: Iterable[SequenceSpan], now_ms: int) -> None:
        """The feed is followed no longer: end all gaps and `holes`, of which nothing is fetched from now on."""
        for hole in holes:
            for part in self.unannounced(hole):
                self._outlet.gap(self._gap(GapState.ABANDONED, GapReason.UNSUBSCRIBED, part, now_ms))
        for gap in self._gaps:
            ended = gap.lost.copy()
            for part in self._known.missing(gap.span.first, gap.span.end):
                ended.add(*part)
                self._outlet.gap(self._gap(GapState.ABANDONED, GapReason.UNSUBSCRIBED, part, now_ms))
            self._close(gap, ended, now_ms)
        self._gaps = []

    def unannounced(self, hole: SequenceSpan) -> list[SequenceSpan]:
        """The parts of `hole` that no open gap contains."""
        parts = SequenceSpans(gap.span for gap in self._gaps).missing(hole.first, hole.end)
        return [part._replace(from_ms=hole.from_ms, to_ms=hole.to_ms) for part in parts]

    def open(self, hole: SequenceSpan, reason: GapReason, now_ms: int) -> None:
        """Announce a gap; what is missing in it is wanted from now on."""
        self._gaps.append(_OpenGap(hole, reason))
        self._outlet.gap(self._gap(GapState.OPEN, reason, hole, now_ms))
        while self._known.holes > HOLES_MAX and (oldest := self._known.oldest_hole()) is not None:
            self.confirm(oldest, GapReason.TOO_MANY_HOLES, now_ms)

    def piece(self, holes: Iterable[SequenceSpan], now_ms: int) -> SequenceSpan | None:
        """The first of `holes` that may be asked for now; it is what the next request is for."""
        self._asked = next((hole for hole in holes if self._ready_ms(hole) <= now_ms), None)
        return self._asked

    def ended(self) -> SequenceSpan | None:
        """The request has its answer; returns the piece that it was for."""
        self.is_asking = False
        piece, self._asked = self._asked, None
        return piece

    def failed(self, now_ms: int) -> None:
        """The request came to nothing: pause before the next."""
        self.ended()
        self.pause.failed(now_ms)

    def due_ms(self, holes: Iterable[SequenceSpan], never_ms: int) -> int:
        """When the first of `holes` may be asked for; `never_ms` if there are none."""
        ready_ms = min((self._ready_ms(hole) for hole in holes), default=never_ms)
        return max(ready_ms, self.pause.until_ms)

    def answered(self, piece: SequenceSpan, shown: Sequence[int], is_progress: bool, now_ms: int) -> None:
        """Judge an answer for `piece`, asked with a neighbour on each side, after its new records are in `known`.

        `shown` are all the sequences on the page, ascending.
        """
        covered = _covered(piece, shown)
        holes = list(self._known.missing(covered.first, covered.end)) if covered is not None else []
        for hole in holes:
            self._note_absent(hole, now_ms)
        if not is_progress and not holes:
            self._note_empty(piece, now_ms)
        if is_progress or holes:
            self.pause.succeeded()
        else:
            self.pause.failed(now_ms)
        self.settle(now_ms)

    def confirm(self, hole: SequenceSpan, reason: GapReason, now_ms: int) -> None:
        """Give up what is missing in `hole`: it is announced as lost and never asked for again."""
        for part in list(self._known.missing(hole.first, hole.end)):
            for gap in self._gaps:
                first, end = max(part.first, gap.span.first), min(part.end, gap.span.end)
                if first < end:
                    gap.lost.add(first, end, part.from_ms, part.to_ms)
            self._known.add(*part)
            self._outlet.counters["confirmed"] += 1
            self._outlet.gap(self._gap(GapState.CONFIRMED, reason, part, now_ms))
        self.settle(now_ms)

    def settle(self, now_ms: int) -> None:
        """Close the gaps of which nothing is missing any more, except for what was confirmed as lost."""
        if not self._gaps:
            return
        remaining = []
        for gap in self._gaps:
            if next(self._known.missing(gap.span.first, gap.span.end), None) is not None:
                remaining.append(gap)
                continue
            self._close(gap, gap.lost, now_ms)
        self._gaps = remaining
        self._forget_evidence()

    def _close(self, gap: _OpenGap, ended: SequenceSpans, now_ms: int) -> None:
        """Close what of a gap has not ended otherwise."""
        for part in ended.missing(gap.span.first, gap.span.end):
            times = part._replace(from_ms=gap.span.from_ms, to_ms=gap.span.to_ms)
            self._outlet.gap(self._gap(GapState.CLOSED, gap.reason, times, now_ms))

    def give_up_all(self, reason: GapReason, now_ms: int) -> None:
        """Confirm everything that is missing in open gaps."""
        for gap in list(self._gaps):
            self.confirm(gap.span, reason, now_ms)

    def _note_absent(self, hole: SequenceSpan, now_ms: int) -> None:
        key = (hole.first, hole.end)
        before = self._absent.get(key)
        if before is not None and now_ms >= before.next_ms:
            self.confirm(hole, GapReason.ABSENT, now_ms)
        elif before is None:
            self._absent[key] = _Evidence(now_ms, now_ms + ABSENT_AGAIN_MS, 1)

    def _note_empty(self, piece: SequenceSpan, now_ms: int) -> None:
        key = (piece.first, piece.end)
        before = self._empty.get(key, _Evidence(now_ms, 0, 0))
        answers = before.answers + 1
        if answers >= EMPTY_ANSWERS_MIN and now_ms - before.first_ms >= EMPTY_FOR_MS:
            self.confirm(piece, GapReason.NOT_SERVED, now_ms)
        else:
            self._empty[key] = before._replace(answers=answers)

    def _ready_ms(self, hole: SequenceSpan) -> int:
        evidence = self._absent.get((hole.first, hole.end))
        return evidence.next_ms if evidence is not None else 0

    def _forget_evidence(self) -> None:
        for evidence in (self._absent, self._empty):
            for first, end in list(evidence):
                if next(self._known.missing(first, end), None) is None:
                    del evidence[first, end]

    def _gap(self, state: GapState, reason: GapReason, span: SequenceSpan, now_ms: int) -> Gap:
        return Gap(self._feed, state, reason, span.from_ms, span.to_ms, now_ms, span.first, span.end)


def _covered(piece: SequenceSpan, shown: Sequence[int]) -> SequenceSpan | None:
    """The part of `piece` that a page proves: first to last, or all of it if the page begins behind it."""
    if not shown or shown[-1] < piece.first:
        return None
    first = piece.first if shown[0] >= piece.end else max(piece.first, shown[0])
    end = min(piece.end, shown[-1] + 1)
    return piece._replace(first=first, end=end) if first < end else None
