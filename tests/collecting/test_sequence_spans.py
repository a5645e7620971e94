"""A set of sequences equals a plain set of integers, whatever is added in whatever order."""

from itertools import pairwise
from random import Random

import pytest

from app.collecting.sequence_spans import SequenceSpan, SequenceSpans


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_a_plain_set(seed: int) -> None:
    chance = Random(seed)
    spans, plain = SequenceSpans(), set[int]()
    for _ in range(60):
        first = chance.randrange(100)
        end = first + chance.randint(1, 12)
        if spans and chance.random() < 0.3:
            grown = spans.end + chance.randint(0, 3)
            plain |= set(range(spans.end, grown))
            spans.grow(grown, grown)
        else:
            spans.add(first, end, first, end - 1)
            plain |= set(range(first, end))
        assert {each for span in spans for each in range(span.first, span.end)} == plain, f"seed {seed}"
        assert all(spans.has(each) == (each in plain) for each in range(-1, 130))
        low, high = sorted(chance.sample(range(130), 2))
        missing = {each for hole in spans.missing(low, high) for each in range(hole.first, hole.end)}
        assert missing == set(range(low, high)) - plain
        assert spans.first == min(plain)
        assert spans.end == max(plain) + 1
        ordered = list(spans)
        assert all(left.end < right.first for left, right in pairwise(ordered))


def test_a_hole_has_the_times_of_what_is_around_it() -> None:
    spans = SequenceSpans([(10, 20, 1_000, 2_000), (30, 40, 3_000, 4_000)])
    assert list(spans.missing(10, 40)) == [SequenceSpan(20, 30, 2_000, 3_000)]
    assert spans.oldest_hole() == SequenceSpan(20, 30, 2_000, 3_000)
    assert list(spans.missing(10, 45))[-1] == SequenceSpan(40, 45, 4_000, 4_000)


def test_a_copy_is_its_own() -> None:
    spans = SequenceSpans([(1, 3, 1, 2)])
    copy = spans.copy()
    spans.grow(9, 9)
    assert (copy.end, spans.end) == (3, 9)


def test_below_a_number_everything_can_be_forgotten_or_taken_for_known() -> None:
    spans = SequenceSpans([(1, 3, 1, 2), (5, 8, 5, 7), (9, 12, 9, 11)])
    spans.join_below(8)
    assert [span[:2] for span in spans] == [(1, 8), (9, 12)]
    spans.drop_below(5)
    assert [span[:2] for span in spans] == [(5, 8), (9, 12)]
    spans.drop_below(12)
    assert not spans
    assert (spans.first, spans.end, spans.newest_ms) == (0, 0, 0)
