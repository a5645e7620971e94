"""The record of past ledgers: what a commit changes in a ledger, and the ledgers that recorded changes add up to."""

from collections.abc import Hashable
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from app.domain.ledger import Entry, Ledger, Source
from app.domain.span import Span, Spans

Name = TypeVar("Name", bound=Hashable)
"""How the recorder names a series."""


class Piece(NamedTuple):
    """A part of a ledger in which a commit changed something, and its source from then on; None: unknown."""

    span: Span
    source: Source | None


def growth(before: Ledger, after: Ledger) -> Span | None:
    """What `after` has more than `before` if only the last entry grew, as in live ingest; None if it is not that."""
    old, new = before.entries, after.entries
    if not old or len(old) != len(new) or old[:-1] != new[:-1]:
        return None
    ((start_ms, end_ms), source), ((new_start_ms, new_end_ms), new_source) = old[-1], new[-1]
    has_grown = source is new_source and start_ms == new_start_ms and end_ms < new_end_ms
    return Span(end_ms, new_end_ms) if has_grown else None


def changed_pieces(before: Ledger, after: Ledger) -> list[Piece]:
    """The pieces in which `after` differs from `before`, ascending and disjoint. Empty if the two are equal."""
    if (grown := growth(before, after)) is not None:
        return [Piece(grown, after.entries[-1].source)]
    old, new = before.entries, after.entries
    first, shorter = 0, min(len(old), len(new))
    while first < shorter and old[first] == new[first]:
        first += 1
    old, new = old[first:], new[first:]
    was, now = Ledger(old), Ledger(new)
    bounds_ms = sorted({time_ms for entry in (*old, *new) for time_ms in entry.span})
    pieces: list[Piece] = []
    for start_ms, end_ms in pairwise(bounds_ms):
        then = now.source_at(start_ms)
        if then is not was.source_at(start_ms):
            _add(pieces, Piece(Span(start_ms, end_ms), then))
    return pieces


class _Run:
    """Pieces with one source that followed each other. Mutable: a day of live ingest extends it 1,440 times."""

    __slots__ = ("end_ms", "source", "start_ms")

    def __init__(self, start_ms: int, end_ms: int, source: Source | None) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.source = source


class Replay(Generic[Name]):
    """Ledgers by the name of their series, made of pieces in the order in which they were recorded."""

    def __init__(self) -> None:
        self._runs: dict[Name, list[_Run]] = {}

    def add(self, name: Name, start_ms: int, end_ms: int, source: Source | None) -> None:
        """Add the next piece of a series. One that continues the piece before it costs no memory."""
        runs = self._runs.get(name)
        if runs is None:
            self._runs[name] = [_Run(start_ms, end_ms, source)]
        elif (last := runs[-1]).end_ms == start_ms and last.source is source:
            last.end_ms = end_ms
        else:
            runs.append(_Run(start_ms, end_ms, source))

    def ledgers(self) -> dict[Name, Ledger]:
        """The ledgers after all pieces; series of which nothing is known are left out."""
        found = {name: _ledger(runs) for name, runs in self._runs.items()}
        return {name: ledger for name, ledger in found.items() if ledger.entries}


def _add(pieces: list[Piece], piece: Piece) -> None:
    """Append `piece`, or let it extend the last one."""
    last = pieces[-1] if pieces else None
    if last and last.source is piece.source and last.span.end_ms == piece.span.start_ms:
        pieces[-1] = Piece(Span(last.span.start_ms, piece.span.end_ms), piece.source)
    else:
        pieces.append(piece)


def _ledger(runs: list[_Run]) -> Ledger:
    entries: list[Entry] = []
    for run in runs:  # those of a whole state: ascending, and known
        if run.source is None or (entries and run.start_ms < entries[-1].span.end_ms):
            break
        entries.append(Entry(Span(run.start_ms, run.end_ms), run.source))
    ledger = Ledger(entries)
    for run in runs[len(entries) :]:
        spans = Spans([(run.start_ms, run.end_ms)])
        ledger = ledger.without(spans) if run.source is None else ledger.record(spans, run.source)
    return ledger
