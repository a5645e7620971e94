"""The ledger of one series: which spans are held, which are proven absent, and where each came from."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from app.domain.span import Span, Spans


class Source(StrEnum):
    """Where klines came from. ABSENT marks spans for which the exchange was asked and has no klines."""

    WS = "ws"
    REST = "rest"
    ARCHIVE = "archive"
    ROLLUP = "rollup"
    ABSENT = "absent"

    __hash__ = str.__hash__  # that of Enum is written in Python, and a commit hashes thousands of entries


_RANK: Final = {Source.ABSENT: 0, Source.ROLLUP: 1, Source.WS: 2, Source.ARCHIVE: 3, Source.REST: 4}
"""Which source wins when two cover the same span. The exchange's own row of the interval ranks highest."""


class Entry(NamedTuple):
    """One line of the ledger."""

    span: Span
    source: Source


class Ledger:
    """The entries of one series: ascending, disjoint; touching entries differ in source. Immutable."""

    __slots__ = ("absent", "entries", "held", "known")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: tuple[Entry, ...] = tuple(entries)
        self.held = Spans(entry.span for entry in self.entries if entry.source is not Source.ABSENT)
        self.absent = Spans(entry.span for entry in self.entries if entry.source is Source.ABSENT)
        self.known = self.held | self.absent
        """Held or proven absent: nothing here needs to be fetched."""

    @property
    def end_ms(self) -> int:
        """Where the newest entry ends; 0 when there is none."""
        return self.entries[-1].span.end_ms if self.entries else 0

    def writable(self, span: Span, source: Source) -> Spans:
        """The part of `span` that `source` may write: all except what the ledger has from a source of higher rank."""
        if span.start_ms >= self.end_ms:
            return Spans([span])
        return self.above(source).complement(span)

    def above(self, source: Source) -> Spans:
        """The spans that sources of higher rank than `source` have written."""
        rank = _RANK[source]
        return Spans(entry.span for entry in self.entries if _RANK[entry.source] > rank)

    def record(self, spans: Spans, source: Source) -> "Ledger":
        """The ledger after `source` has written `spans` (which it must have been granted, see `writable`)."""
        if not spans:
            return self
        first, *others = spans
        if not others and first.start_ms >= self.end_ms:
            return self._extended(first, source)
        pieces = [Entry(span, source) for span in spans]
        for entry in self.entries:
            pieces.extend(Entry(span, entry.source) for span in spans.complement(entry.span))
        return Ledger(_joined(sorted(pieces)))

    def without(self, spans: Spans) -> "Ledger":
        """The ledger with `spans` made unknown: neither held nor absent."""
        pieces = (Entry(span, entry.source) for entry in self.entries for span in spans.complement(entry.span))
        return Ledger(_joined(list(pieces)))

    def source_at(self, time_ms: int) -> Source | None:
        """The source of the entry that contains `time_ms`; None when the time is unknown."""
        index = bisect_right(self.entries, time_ms, key=lambda entry: entry.span.start_ms) - 1
        if index < 0 or self.entries[index].span.end_ms <= time_ms:
            return None
        return self.entries[index].source

    def _extended(self, span: Span, source: Source) -> "Ledger":
        """`record` of one span at the end, which live ingest does thousands of times a minute."""
        made = Ledger.__new__(Ledger)
        made.entries = (*self.entries[:-1], *_joined([*self.entries[-1:], Entry(span, source)]))
        is_absent = source is Source.ABSENT
        made.held = self.held if is_absent else self.held.extended(span)
        made.absent = self.absent.extended(span) if is_absent else self.absent
        made.known = self.known.extended(span)
        return made


def _joined(entries: Sequence[Entry]) -> list[Entry]:
    joined: list[Entry] = []
    for entry in entries:
        last = joined[-1] if joined else None
        if last and last.source is entry.source and last.span.end_ms == entry.span.start_ms:
            joined[-1] = Entry(Span(last.span.start_ms, entry.span.end_ms), entry.source)
        else:
            joined.append(entry)
    return joined
