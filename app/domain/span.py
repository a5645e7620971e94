"""Half-open spans of time and the algebra of sets of them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self


class Span(NamedTuple):
    """The times `start_ms <= t < end_ms`. A span holds at least one millisecond wherever it is stored."""

    start_ms: int
    end_ms: int

    def __bool__(self) -> bool:
        return self.start_ms < self.end_ms

    def clip(self, other: "Span") -> "Span":
        """What this span shares with `other`; empty (falsy) when they do not meet."""
        return Span(max(self.start_ms, other.start_ms), min(self.end_ms, other.end_ms))


class Spans:
    """An immutable set of times, kept as ascending spans that neither overlap nor touch."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[Span] = []
        for start_ms, end_ms in sorted(spans):
            if start_ms >= end_ms:
                continue
            if merged and start_ms <= merged[-1].end_ms:
                if end_ms > merged[-1].end_ms:
                    merged[-1] = Span(merged[-1].start_ms, end_ms)
            else:
                merged.append(Span(start_ms, end_ms))
        self._spans: tuple[Span, ...] = tuple(merged)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __reversed__(self) -> Iterator[Span]:
        return reversed(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def __repr__(self) -> str:
        return f"Spans({[tuple(span) for span in self._spans]})"

    @property
    def hull(self) -> Span:
        """From the first to the last time in the set; empty when the set is."""
        return Span(self._spans[0].start_ms, self._spans[-1].end_ms) if self._spans else Span(0, 0)

    @property
    def total_ms(self) -> int:
        """The number of milliseconds in the set."""
        return sum(end_ms - start_ms for start_ms, end_ms in self._spans)

    def __or__(self, other: "Spans") -> "Spans":
        if not other:
            return self
        if not self:
            return other
        return Spans((*self._spans, *other._spans))

    def extended(self, span: Span) -> "Spans":
        """The set with `span` added, which must not begin before the set ends: the cheap way to grow at the end."""
        last = self._spans[-1] if self._spans else None
        assert last is None or last.end_ms <= span.start_ms, "extended with a span that is not behind the others"
        if not span:
            return self
        if last is not None and last.end_ms == span.start_ms:
            return self._of((*self._spans[:-1], Span(last.start_ms, span.end_ms)))
        return self._of((*self._spans, span))

    def __and__(self, other: "Spans") -> "Spans":
        return Spans(mine.clip(theirs) for mine in self._spans for theirs in other._overlapping(mine))

    def __sub__(self, other: "Spans") -> "Spans":
        return Spans(piece for mine in self._spans for piece in other.complement(mine))

    def covers(self, span: Span) -> bool:
        """Whether every time of `span` is in the set (an empty span always is)."""
        if not span:
            return True
        holder = self.span_at(span.start_ms)
        return holder is not None and holder.end_ms >= span.end_ms

    def span_at(self, time_ms: int) -> Span | None:
        """The span that holds `time_ms`, if any."""
        index = bisect_right(self._spans, time_ms, key=lambda span: span.start_ms) - 1
        if index >= 0 and self._spans[index].end_ms > time_ms:
            return self._spans[index]
        return None

    def clip(self, window: Span) -> "Spans":
        """The part of the set inside `window`."""
        return self._of(piece for span in self._overlapping(window) if (piece := span.clip(window)))

    def complement(self, window: Span) -> "Spans":
        """The part of `window` that is not in the set."""
        pieces = []
        cursor_ms = window.start_ms
        for span in self._overlapping(window):
            if span.start_ms > cursor_ms:
                pieces.append(Span(cursor_ms, span.start_ms))
            cursor_ms = max(cursor_ms, span.end_ms)
        if cursor_ms < window.end_ms:
            pieces.append(Span(cursor_ms, window.end_ms))
        return self._of(pieces)

    def _overlapping(self, window: Span) -> Iterator[Span]:
        index = max(0, bisect_right(self._spans, window.start_ms, key=lambda span: span.start_ms) - 1)
        while index < len(self._spans) and self._spans[index].start_ms < window.end_ms:
            if self._spans[index].end_ms > window.start_ms:
                yield self._spans[index]
            index += 1

    @classmethod
    def _of(cls, disjoint: Iterable[Span]) -> Self:
        made = cls.__new__(cls)
        made._spans = tuple(disjoint)
        return made
