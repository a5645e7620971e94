from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.span import Span, Spans

TIMES = st.integers(0, 30)
PIECES = st.lists(st.tuples(TIMES, TIMES), max_size=6)


def brute(pieces: Iterable[tuple[int, int]]) -> set[int]:
    return {time for start, end in pieces for time in range(start, end)}


def members(spans: Spans) -> set[int]:
    return brute(spans)


@given(PIECES)
def test_spans_are_ascending_apart_and_hold_what_went_in(pieces: list[tuple[int, int]]) -> None:
    spans = Spans(pieces)
    assert members(spans) == brute(pieces)
    listed = list(spans)
    assert all(left.end_ms < right.start_ms for left, right in pairwise(listed))
    assert all(listed)
    assert spans.total_ms == len(brute(pieces))
    assert bool(spans) == bool(brute(pieces))
    assert list(reversed(spans)) == listed[::-1]


@given(PIECES, PIECES)
def test_the_algebra_is_that_of_sets(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = Spans(left), Spans(right)
    assert members(a | b) == brute(left) | brute(right)
    assert members(a & b) == brute(left) & brute(right)
    assert members(a - b) == brute(left) - brute(right)
    assert (a - b) | (a & b) == a
    assert hash(a | b) == hash(b | a)


@given(PIECES, TIMES, TIMES)
def test_questions_about_a_window(pieces: list[tuple[int, int]], start: int, end: int) -> None:
    spans, window = Spans(pieces), Span(start, end)
    inside = set(range(start, end))
    assert members(spans.clip(window)) == brute(pieces) & inside
    assert members(spans.complement(window)) == inside - brute(pieces)
    assert spans.covers(window) == (inside <= brute(pieces))
    holder = spans.span_at(start)
    assert (holder is not None) == (start in brute(pieces))
    assert holder is None or holder in list(spans)


@given(PIECES, st.integers(0, 3), st.integers(0, 5))
def test_growing_at_the_end_is_a_union(pieces: list[tuple[int, int]], gap: int, length: int) -> None:
    spans = Spans(pieces)
    start = max((span.end_ms for span in spans), default=0) + gap
    grown = spans.extended(Span(start, start + length))
    assert grown == spans | Spans([(start, start + length)])
