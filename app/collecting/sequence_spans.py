"""A growing set of sequence numbers, kept as spans that know the times of their first and last member."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class SequenceSpan(NamedTuple):
    """The sequences `first <= s < end`; `from_ms` and `to_ms` are the times of its first and its last member."""

    first: int
    end: int
    from_ms: int
    to_ms: int


class SequenceSpans:
    """A set of sequences; spans are ascending and neither overlap nor touch. Growing at the end costs O(1)."""

    __slots__ = ("_spans", "end", "newest_ms")

    def __init__(self, spans: Iterable[tuple[int, int, int, int]] = ()) -> None:
        self._spans: list[SequenceSpan] = []
        self.end = 0
        """The sequence behind the highest one; 0 when the set is empty."""
        self.newest_ms = 0
        """The time of the highest sequence; 0 when the set is empty."""
        for span in spans:
            self.add(*span)

    def __iter__(self) -> Iterator[SequenceSpan]:
        return iter(self._ordered())

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __repr__(self) -> str:
        return f"SequenceSpans({[tuple(span) for span in self]})"

    @property
    def first(self) -> int:
        """The lowest sequence; 0 when the set is empty."""
        return self._spans[0].first if self._spans else 0

    @property
    def holes(self) -> int:
        """How many holes there are between the first and the last sequence."""
        return max(0, len(self._spans) - 1)

    def add(self, first: int, end: int, from_ms: int, to_ms: int) -> None:
        """Add the sequences [`first`, `end`), which happened between the two times; known ones may be among them."""
        assert first < end, "a span of sequences holds at least one"
        spans = self._ordered()
        low = bisect_right(spans, first, key=lambda span: span.first) - 1
        if low < 0 or spans[low].end < first:
            low += 1
        high = low
        while high < len(spans) and spans[high].first <= end:
            high += 1
        joined = spans[low:high]
        if joined:
            from_ms = joined[0].from_ms if joined[0].first < first else min(from_ms, joined[0].from_ms)
            to_ms = joined[-1].to_ms if joined[-1].end > end else max(to_ms, joined[-1].to_ms)
            first, end = min(first, joined[0].first), max(end, joined[-1].end)
        spans[low:high] = [SequenceSpan(first, end, from_ms, to_ms)]
        self.end, self.newest_ms = spans[-1].end, spans[-1].to_ms

    def grow(self, end: int, time_ms: int) -> None:
        """Add everything from the end of the set, which has members, to `end`: what happens a million times."""
        self.end = end
        if time_ms > self.newest_ms:
            self.newest_ms = time_ms

    def has(self, sequence: int) -> bool:
        """Whether `sequence` is in the set."""
        spans = self._ordered()
        index = bisect_right(spans, sequence, key=lambda span: span.first) - 1
        return index >= 0 and spans[index].end > sequence

    def missing(self, first: int, end: int) -> Iterator[SequenceSpan]:
        """The parts of [`first`, `end`) that are not in the set, ascending.

        Their times are those of the members around them; where there is none on a side, the other side's.
        """
        spans = self._ordered()
        index = max(0, bisect_right(spans, first, key=lambda span: span.first) - 1)
        before_ms = None
        while index < len(spans) and first < end:
            span = spans[index]
            if span.first >= end:
                break
            if span.first > first:
                yield SequenceSpan(first, span.first, span.from_ms if before_ms is None else before_ms, span.from_ms)
            first, before_ms = max(first, span.end), span.to_ms
            index += 1
        if first < end:
            after_ms = spans[index].from_ms if index < len(spans) else before_ms
            if before_ms is None:
                before_ms = after_ms
            yield SequenceSpan(first, end, before_ms or 0, after_ms or 0)

    def oldest_hole(self) -> SequenceSpan | None:
        """The lowest hole; None when the set is contiguous."""
        if len(self._spans) < 2:
            return None
        before, after = self._ordered()[:2]
        return SequenceSpan(before.end, after.first, before.to_ms, after.from_ms)

    def clear(self) -> None:
        """Forget all members."""
        self._spans.clear()
        self.end = self.newest_ms = 0

    def drop_below(self, sequence: int) -> None:
        """Forget the members below `sequence`, which is the end or the first of a span, or lies in one."""
        kept = [span for span in self._ordered() if span.end > sequence]
        self._spans = [span._replace(first=max(span.first, sequence)) for span in kept]
        if not kept:
            self.clear()

    def copy(self) -> "SequenceSpans":
        """A set of its own with the same members."""
        made = SequenceSpans()
        made._spans = list(self._ordered())
        made.end, made.newest_ms = self.end, self.newest_ms
        return made

    def join_below(self, sequence: int) -> None:
        """Take everything between the first member and `sequence` for known."""
        if self._spans and self.first < sequence:
            for hole in list(self.missing(self.first, min(sequence, self.end))):
                self.add(*hole)

    def _ordered(self) -> list[SequenceSpan]:
        """The spans, after the last one has got what `grow` added."""
        spans = self._spans
        if spans and (spans[-1].end != self.end or spans[-1].to_ms != self.newest_ms):
            spans[-1] = spans[-1]._replace(end=self.end, to_ms=self.newest_ms)
        return spans
