import random

from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.span import Span, Spans
from app.filling.lacking import ABSENT_EVERY_MS, RECHECKS_MS, SINCE_STEP_MS, Lacking

STEP_MS = 5 * MINUTE_MS
NOW_MS = 1_000 * HOUR_MS
PAGE = Span(NOW_MS - 40 * HOUR_MS, NOW_MS - 2 * HOUR_MS)


def rows(*numbers: int) -> Spans:
    return Spans(Span(PAGE.start_ms + each * STEP_MS, PAGE.start_ms + (each + 1) * STEP_MS) for each in numbers)


def note(seen: Lacking, lacks: Spans, at_ms: int) -> Spans:
    return seen.note(lacks, Spans([PAGE]) - lacks, PAGE, at_ms)


def test_a_row_is_absent_when_it_lacks_at_every_recheck() -> None:
    seen, lacks = Lacking(), rows(3, 4, 9)
    assert not note(seen, lacks, NOW_MS)
    for recheck_ms in RECHECKS_MS[:-1]:
        assert seen.waiting(NOW_MS + recheck_ms - MINUTE_MS) == lacks
        assert not seen.waiting(NOW_MS + recheck_ms + SINCE_STEP_MS)
        assert not note(seen, lacks, NOW_MS + recheck_ms + SINCE_STEP_MS)
    assert note(seen, lacks, NOW_MS + RECHECKS_MS[-1] + SINCE_STEP_MS) == lacks
    assert not seen.waiting(NOW_MS), "it is over"


def test_a_row_that_comes_is_forgotten_and_lets_the_others_be_asked_for_at_once() -> None:
    seen = Lacking()
    note(seen, rows(3, 4, 9), NOW_MS)
    later_ms = NOW_MS + RECHECKS_MS[0] + SINCE_STEP_MS
    note(seen, rows(3, 4, 9), later_ms)
    assert seen.waiting(later_ms) == rows(3, 4, 9)
    note(seen, rows(4, 9), later_ms + MINUTE_MS)
    assert not seen.waiting(later_ms + MINUTE_MS), "the exchange has found its history again"
    note(seen, rows(9), later_ms + 2 * MINUTE_MS)
    note(seen, Spans(), later_ms + 3 * MINUTE_MS)
    assert not seen.waiting(later_ms + 3 * MINUTE_MS)


def test_what_was_not_asked_for_stays_as_it_is() -> None:
    seen = Lacking()
    note(seen, rows(3, 200), NOW_MS)
    part = Span(PAGE.start_ms, PAGE.start_ms + 100 * STEP_MS)
    at_ms = NOW_MS + RECHECKS_MS[0] + SINCE_STEP_MS
    seen.note(rows(3), Spans([part]) - rows(3), part, at_ms)
    assert seen.waiting(at_ms) == rows(3)
    assert not seen.waiting(at_ms) & rows(200), "it is due"


def test_absent_rows_are_asked_for_every_day_page_by_page() -> None:
    seen, absent = Lacking(), rows(3, 200)
    assert not seen.to_recheck(absent, NOW_MS), "the first day begins"
    assert not seen.to_recheck(absent, NOW_MS + ABSENT_EVERY_MS - 1)
    at_ms = NOW_MS + ABSENT_EVERY_MS
    assert seen.to_recheck(absent, at_ms) == absent
    part = Span(PAGE.start_ms, PAGE.start_ms + 100 * STEP_MS)
    seen.note(Spans(), Spans([part]), part, at_ms)
    assert seen.to_recheck(absent, at_ms) == rows(200)
    note(seen, Spans(), at_ms)
    assert not seen.to_recheck(absent, at_ms)
    assert seen.to_recheck(absent, at_ms + ABSENT_EVERY_MS) == absent


def test_what_has_passed_out_of_reach_is_forgotten() -> None:
    seen = Lacking()
    note(seen, rows(3, 200), NOW_MS)
    seen.keep(Span(PAGE.start_ms + 100 * STEP_MS, NOW_MS))
    assert seen.waiting(NOW_MS) == rows(200)
    seen.keep(Span(NOW_MS, NOW_MS))
    assert not seen.waiting(NOW_MS)


def test_whatever_comes_and_lacks_nothing_given_is_suspected_and_the_groups_stay_few() -> None:
    for seed in range(10):
        chance, seen, now_ms = random.Random(seed), Lacking(), NOW_MS
        absent = Spans()
        for _ in range(200):
            now_ms += chance.randrange(2 * HOUR_MS)
            first = chance.randrange(400)
            asked = Span(PAGE.start_ms + first * STEP_MS, PAGE.start_ms + (first + 50) * STEP_MS)
            lacks = rows(*(each for each in range(first, first + 50) if chance.random() < 0.3)) - absent
            given = Spans([asked]) - lacks
            absent |= seen.note(lacks, given, asked, now_ms)
            assert not seen.waiting(now_ms - 100 * HOUR_MS) & given, seed
            assert len(seen._suspects) <= 144 * len(RECHECKS_MS), seed
