"""What is published of a book is what the exchange's numbers prove; the rest is a gap and a new snapshot."""

import pytest

from app.collecting.book_chain import BookRule
from app.collecting.book_feed import SILENCE_MS, SNAPSHOT_EVERY_MS, BookFeed
from app.collecting.ledger import Origin
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpans
from app.domain.gap_reason import GapReason
from app.domain.market_events import BookUpdate
from app.domain.records import BookDelta, BookSnapshot, DataType, Gap
from tests.collecting.made import ask, chance, feed, records, snapshot_body, update, venue


def begin(*, is_streamed: bool, rule: BookRule | None = None, newest_ms: int | None = None) -> tuple[BookFeed, Outlet]:
    outlet = Outlet()
    rule = BookRule() if rule is None else rule
    made = venue(is_streamed=is_streamed)
    rules = BookFeed(
        feed(DataType.ORDERBOOK), made, rule, (7, Origin(SequenceSpans(), newest_ms=newest_ms)), outlet, chance()
    )
    rules.tick(0)
    return rules, outlet


def text(levels: tuple[tuple[str, str], ...]) -> str:
    return " ".join(":".join(level) for level in levels)


def shown(outlet: Outlet) -> list[object]:
    """Snapshots as (S, own, native, bids, asks), deltas likewise with D, gaps as (state, reason, own sequences)."""
    short: list[object] = []
    for each in records(outlet):
        if isinstance(each, BookSnapshot | BookDelta):
            kind = "S" if isinstance(each, BookSnapshot) else "D"
            short.append((kind, each.sequence, each.native_sequence, text(each.bids), text(each.asks)))
        elif isinstance(each, Gap):
            short.append((each.state.value, each.reason, each.from_sequence, each.to_sequence))
    return short


def streamed(*updates: BookUpdate, rule: BookRule | None = None) -> tuple[BookFeed, Outlet]:
    rules, outlet = begin(is_streamed=True, rule=rule)
    rules.received(update(5, None, "9:1", "10:1", is_snapshot=True), 1, 0)
    for each in updates:
        rules.received(each, 1, 0)
    return rules, outlet


FIRST = ("S", 1, 5, "9:1", "10:1")


def test_frames_that_follow_each_other_are_published_as_what_they_changed() -> None:
    _, outlet = streamed(update(6, 5, "9:1 8.50:2"), update(6, 6), update(8, 6, "", "10:0 11:1"))
    assert shown(outlet) == [FIRST, ("D", 2, 6, "8.5:2", ""), ("D", 3, 8, "", "10:0 11:1")]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (update(9, 8, "8:1"), "sequence_broken"),
        (update(9, 9), "sequence_broken"),
        (update(2, 5, "8:1"), "reset"),
        (update(6, 5, "10:1"), "crossed"),
        (update(6, 5, "8:0"), "unknown_delete"),
        (update(6, 5, "1e3:1"), "unreadable_price"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_whatever_breaks_the_chain_is_a_gap_until_a_new_snapshot(broken: BookUpdate, reason: str) -> None:
    rules, outlet = streamed(broken, update(10, 9, "8:1"), rule=BookRule(None, True))
    assert shown(outlet) == [FIRST, ("open", reason, 2, 3)], "nothing is published of a book that is not proven"
    assert outlet.resubscribes == [(feed(DataType.ORDERBOOK), 1)]
    assert rules.status().state == "broken"
    rules.received(update(20, None, "9:3", "10:3", is_snapshot=True), 1, 0)
    rules.received(update(21, 20, "9:4"), 1, 0)
    assert shown(outlet) == [
        ("confirmed", reason, 2, 3),
        ("S", 3, 20, "9:3", "10:3"),
        ("D", 4, 21, "9:4", ""),
    ]


def test_a_repeated_frame_changes_nothing() -> None:
    _, outlet = streamed(update(6, 5, "8:1"), update(6, 5, "8:1"), update(7, 6, "8:2"))
    assert shown(outlet) == [FIRST, ("D", 2, 6, "8:1", ""), ("D", 3, 7, "8:2", "")]


def test_a_first_frame_that_is_no_snapshot_is_answered_by_subscribing_again_and_again() -> None:
    rules, outlet = begin(is_streamed=True)
    rules.received(update(6, 5, "8:1"), 1, 0)
    assert outlet.resubscribes == [(feed(DataType.ORDERBOOK), 1)]
    rules.tick(rules.due_ms)
    assert len(outlet.resubscribes) == 2
    assert shown(outlet) == []


def test_a_snapshot_by_rest_joins_the_frames_that_came_before_and_after() -> None:
    rules, outlet = begin(is_streamed=False)
    rules.received(update(103, 100, "9:9"), 1, 0)
    rules.received(update(107, 103, "9:2"), 1, 0)
    ask(rules, 0)
    rules.received(update(110, 107, "8:2"), 1, 0)
    rules.answered(snapshot_body(105, "9:1", "10:1"), 0)
    assert shown(outlet) == [("S", 1, 110, "9:2 8:2", "10:1")], "103 is in the snapshot, 107 covers it"
    rules.received(update(112, 110, "8:3"), 1, 0)
    assert shown(outlet) == [("D", 2, 112, "8:3", "")]


def test_a_snapshot_that_is_older_than_the_first_frame_is_fetched_again() -> None:
    rules, outlet = begin(is_streamed=False)
    rules.received(update(110, 107, "8:2"), 1, 0)
    ask(rules, 0)
    rules.answered(snapshot_body(105, "9:1", "10:1"), 0)
    assert shown(outlet) == []
    ask(rules, rules.due_ms)
    rules.answered(snapshot_body(108, "9:1", "10:1"), rules.due_ms)
    assert shown(outlet) == [("S", 1, 110, "9:1 8:2", "10:1")]


def test_a_thin_side_is_fetched_again_and_published_as_a_difference_without_a_gap() -> None:
    rules, outlet = begin(is_streamed=False, rule=BookRule(8))
    rules.received(update(100, 99), 1, 0)
    ask(rules, 0)
    rules.answered(snapshot_body(100, " ".join(f"{each}:1" for each in range(8, 0, -1)), "10:1"), 0)
    shown(outlet)
    rules.received(update(101, 100, "8:0 7:0 6:0 5:0 4:0 3:0 2:0 0.5:1"), 1, 50_000)
    assert shown(outlet) == [("D", 2, 101, "8:0 7:0 6:0 5:0 4:0 3:0 2:0", "")], "0.5 lies beyond the snapshot"
    ask(rules, 50_000)
    rules.answered(snapshot_body(101, "1:1 0.5:1 0.4:1", "10:1"), 50_000)
    assert shown(outlet) == [("D", 3, 101, "0.5:1 0.4:1", "")]


def test_a_side_that_left_what_is_known_is_a_break_and_never_published_as_empty() -> None:
    rules, outlet = begin(is_streamed=False, rule=BookRule(2))
    rules.received(update(100, 99), 1, 0)
    ask(rules, 0)
    rules.answered(snapshot_body(100, "9:1 8:1", "10:1"), 0)
    rules.received(update(101, 100, "9:0 8:0 7:1"), 1, 0)
    assert shown(outlet)[1:] == [("open", "left_window", 2, 3)]
    ask(rules, rules.due_ms)
    rules.answered(snapshot_body(101, "7:1 6:1", "10:1"), 0)
    assert shown(outlet) == [("confirmed", "left_window", 2, 3), ("S", 3, 101, "7:1 6:1", "10:1")]


def test_a_second_socket_takes_over_without_a_gap_when_its_book_joins() -> None:
    rules, outlet = streamed()
    rules.received(update(6, None, "9:1 8:1", "10:1", is_snapshot=True), 2, 0)
    assert not rules.delivers_on(2), "the published book is older than what the new socket can prove"
    rules.received(update(6, 5, "8:1"), 1, 0)
    rules.received(update(7, 6, "8:2"), 2, 0)
    assert rules.delivers_on(2)
    rules.received(update(7, 6, "8:2"), 1, 0)
    rules.cut(1, GapReason.ROTATION, 0)
    rules.received(update(8, 7, "8:3"), 2, 0)
    assert shown(outlet) == [FIRST, ("D", 2, 6, "8:1", ""), ("D", 3, 7, "8:2", ""), ("D", 4, 8, "8:3", "")]


def test_a_cut_is_a_gap_by_its_time_and_own_number() -> None:
    rules, outlet = streamed()
    rules.cut(1, GapReason.DISCONNECTED, 400)
    rules.received(update(90, None, "9:1", "10:1", is_snapshot=True), 2, 900)
    gaps = [each for each in records(outlet) if isinstance(each, Gap)]
    assert [(each.state.value, each.from_ms, each.to_ms, each.from_sequence) for each in gaps] == [
        ("open", 50, 400, 2),
        ("confirmed", 50, 900, 2),
    ]


def test_a_late_reader_gets_a_snapshot_and_a_silent_book_is_subscribed_again() -> None:
    rules, outlet = streamed()
    shown(outlet)
    rules.tick(SILENCE_MS)
    assert outlet.resubscribes == [(feed(DataType.ORDERBOOK), 0)]
    rules.received(update(5, None, "9:1", "10:1", is_snapshot=True), 1, SILENCE_MS)
    assert shown(outlet) == [], "the same moment: nothing was lost"
    rules.tick(SNAPSHOT_EVERY_MS)
    assert shown(outlet) == [("S", 2, 5, "9:1", "10:1")]
    rules.received(update(9, None, "9:1", "10:1", is_snapshot=True), 1, SNAPSHOT_EVERY_MS)
    assert [each[:2] for each in shown(outlet) if isinstance(each, tuple)] == [
        ("open", "new_snapshot"),
        ("confirmed", "new_snapshot"),
        ("S", 4),
    ]


def test_a_restart_is_a_gap_from_the_newest_that_was_stored() -> None:
    rules, outlet = begin(is_streamed=True, newest_ms=20)
    rules.received(update(5, None, "9:1", "10:1", is_snapshot=True), 1, 60)
    assert shown(outlet) == [("open", "start", None, None), ("confirmed", "start", None, None), FIRST]


def test_a_gap_ends_with_the_feed() -> None:
    rules, outlet = streamed()
    rules.cut(1, GapReason.DISCONNECTED, 400)
    shown(outlet)
    rules.leave(500)
    assert shown(outlet) == [("abandoned", "unsubscribed", 2, 3)]
