"""A held book is compared with a fresh snapshot at one number; what differs is a gap and the snapshot's book."""

from app.collecting.book_chain import BookRule
from app.collecting.book_check import AGAIN_MS
from app.collecting.book_feed import CHECK_MS_MAX, BookFeed
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.records import BookSnapshot, DataType, Gap, GapState
from tests.collecting.made import ask, chance, feed, records, snapshot_body, update, venue

HOUR_MS = 3_600_000
RULE = BookRule(snapshot_levels=3, compare_ms=HOUR_MS)
BIDS, ASKS = "9:1 8:1 7:1", "10:1 11:1 12:1"


class Case:
    """A book at number 5 whose first comparison is due and asked for."""

    def __init__(self, outlet: Outlet | None = None) -> None:
        self.outlet = Outlet() if outlet is None else outlet
        self.rules = BookFeed(
            feed(DataType.ORDERBOOK), venue(), RULE, (7, Origin(SequenceSpans())), self.outlet, chance()
        )
        self.rules.tick(0)
        self.hear(5, 4)
        ask(self.rules, 0)
        self.rules.answered(snapshot_body(5, BIDS, ASKS), 0)
        assert self.rules.held() is not None
        self.outlet.take()
        self.now_ms = HOUR_MS

    def hear(self, last: int, previous: int, bids: str = "", asks: str = "") -> None:
        self.rules.received(update(last, previous, bids, asks), 1, 0)

    def begin(self) -> None:
        request = ask(self.rules, self.now_ms)
        assert request.is_check, "a comparison gives way to all other requests"

    def answer(self, last: int, bids: str = BIDS, asks: str = ASKS) -> None:
        self.rules.answered(snapshot_body(last, bids, asks), self.now_ms)

    @property
    def levels(self) -> tuple[int, int]:
        return self.rules.status().levels

    def gaps(self) -> list[Gap]:
        return [each for each in records(self.outlet) if isinstance(each, Gap)]


def begun() -> Case:
    case = Case()
    case.begin()
    return case


def test_a_snapshot_of_the_held_number_is_compared_at_once() -> None:
    case = begun()
    case.answer(5)
    assert case.levels == (6, 6)
    assert case.gaps() == []


def test_the_book_is_taken_at_the_snapshots_number_though_frames_have_come_since() -> None:
    case = begun()
    case.hear(6, 5, "9:2")
    case.hear(7, 6, "", "11:3")
    case.answer(6, "9:2 8:1 7:1")
    assert case.levels == (5, 5), "a level that a later frame sets says nothing"
    assert case.gaps() == []


def test_a_snapshot_inside_a_frame_is_compared_without_what_the_frame_sets() -> None:
    case = begun()
    case.hear(9, 5, "9:4 8:0")
    case.answer(7, "9:3 8:1 7:1")
    assert case.levels == (4, 4)
    assert case.gaps() == []


def test_a_snapshot_that_is_ahead_waits_for_the_frames_up_to_it() -> None:
    case = begun()
    case.answer(8, "9:2 8:1 7:1")
    assert case.levels == (0, 0)
    case.hear(7, 5, "9:3")
    assert case.levels == (0, 0)
    case.hear(8, 7, "9:2")
    assert case.levels == (6, 6)


def test_only_prices_inside_both_windows_are_compared() -> None:
    case = begun()
    case.hear(6, 5, "9:0", "")
    case.answer(6, "8:1 7:1 6:1")
    assert case.levels == (5, 5), "nothing is known below 7"


def test_a_book_that_differs_is_a_gap_since_it_was_right_and_begins_with_the_snapshot() -> None:
    case = begun()
    case.answer(5)
    case.now_ms += HOUR_MS
    case.hear(6, 5, "9:2")
    case.begin()
    case.answer(6, "9:3 8:1 6:5")
    opened, closed, book = records(case.outlet)[-3:]
    assert case.levels == (6, 4), "8 and all asks but none of 9, 7: 9 differs, 7 is gone"
    assert isinstance(opened, Gap)
    assert isinstance(closed, Gap)
    assert isinstance(book, BookSnapshot)
    assert (opened.state, opened.reason, opened.from_ms) == (GapState.OPEN, GapReason.UNEQUAL, 50), "equal at number 5"
    assert (closed.state, closed.from_ms, closed.to_ms) == (GapState.CONFIRMED, 50, 60)
    assert book.sequence == opened.to_sequence
    assert (book.native_sequence, book.bids[0], len(book.bids)) == (6, ("9", "3"), 3)
    case.hear(7, 6, "9:4")
    assert case.rules.status().state == "live", "the frames go on where the snapshot is"


def test_a_snapshot_that_the_frames_do_not_join_proves_nothing_and_is_tried_again() -> None:
    case = begun()
    case.hear(6, 5, "9:2")
    case.answer(3, "1:1")
    assert case.levels == (0, 0)
    assert case.gaps() == []
    assert case.rules.wanted(case.now_ms + AGAIN_MS - 1) is None
    assert case.rules.wanted(case.now_ms + AGAIN_MS) is not None


def test_a_cut_ends_the_comparison() -> None:
    case = begun()
    case.rules.cut(1, GapReason.DISCONNECTED, case.now_ms)
    assert [gap.reason for gap in case.gaps()] == [GapReason.DISCONNECTED]
    case.answer(5, "9:9 8:1 7:1")
    assert case.levels == (0, 0)
    assert case.gaps() == []


def test_a_failed_request_is_no_fault_of_the_book() -> None:
    case = begun()
    case.rules.failed(case.now_ms)
    assert case.rules.status().state == "live"
    assert case.rules.wanted(case.now_ms + AGAIN_MS) is not None


def test_a_book_is_compared_once_an_hour_at_most() -> None:
    case = begun()
    case.answer(5)
    assert case.rules.wanted(case.now_ms + HOUR_MS - 1) is None
    assert case.rules.wanted(case.now_ms + HOUR_MS) is not None


def test_one_book_of_an_exchange_is_compared_at_a_time() -> None:
    one = Case()
    other = Case(one.outlet)
    one.begin()
    assert other.rules.wanted(other.now_ms) is None
    assert other.rules.wanted(other.now_ms + CHECK_MS_MAX) is not None, "an answer may never come"
    one.answer(5)
    other.begin()
