"""Trades pass in order and once; a jump is a gap that REST fills, or that is confirmed with exact spans."""

import msgspec
import pytest
from msgspec.structs import replace

from app.collecting.backfill import ABSENT_AGAIN_MS, EMPTY_ANSWERS_MIN, EMPTY_FOR_MS, HOLES_MAX
from app.collecting.ledger import Origin, SequenceLedger
from app.collecting.outlet import Outlet
from app.collecting.sequence_spans import SequenceSpan, SequenceSpans
from app.collecting.trade_feed import BACKFILL_MAX, QUIET_MS, RESET_AHEAD, RESET_BELOW, TradeFeed
from app.domain.gap_reason import GapReason
from app.domain.market_events import Trades
from app.domain.records import DataType, Gap, GapState, Trade
from tests.collecting.made import BTC, SECOND, ask, chance, feed, records, shown, trade, trades, trades_body, venue


def begin(known: SequenceSpans | None = None) -> tuple[TradeFeed, Outlet]:
    outlet = Outlet()
    rules = TradeFeed(feed(DataType.TRADE), venue(), Origin(known or SequenceSpans()), outlet, chance())
    rules.tick(0)
    return rules, outlet


def params(request: object) -> dict[str, str]:
    return dict(request.params)  # type: ignore[attr-defined]


def test_the_first_trade_begins_and_the_others_follow_once() -> None:
    rules, outlet = begin()
    rules.received(trades(5, 6), 1, 0)
    rules.received(trades(7), 1, 0)
    rules.received(trades(6, 7, 8), 2, 0)
    rules.received(trades(3), 1, 0)
    assert shown(records(outlet)) == [5, 6, 7, 8]
    assert outlet.counters["duplicates"] == 3
    assert rules.wanted(0) is None


def test_a_jump_is_announced_at_once_and_closed_when_rest_filled_it() -> None:
    rules, outlet = begin()
    rules.received(trades(5), 1, 0)
    rules.received(trades(9), 1, 0)
    assert shown(records(outlet)) == [5, ("open", "sequence_broken", 6, 9), 9]
    request = ask(rules, 0)
    assert params(request)["first"] == "5", "with a neighbour on each side"
    assert params(request)["end"] == "10"
    rules.answered(trades_body(5, 6, 7), 0)
    assert shown(records(outlet)) == [6, 7]
    ask(rules, 0)
    rules.answered(trades_body(7, 8, 9), 0)
    assert shown(records(outlet)) == [8, ("closed", "sequence_broken", 6, 9)]
    assert rules.status().open_gaps == 0


def test_a_missing_trade_may_also_come_late_by_another_socket() -> None:
    rules, outlet = begin()
    rules.received(trades(5, 7), 1, 0)
    rules.received(trades(6), 2, 0)
    assert shown(records(outlet)) == [5, ("open", "sequence_broken", 6, 7), 7, 6, ("closed", "sequence_broken", 6, 7)]


def test_what_the_exchange_shows_twice_not_to_have_is_confirmed_and_the_rest_closed() -> None:
    rules, outlet = begin()
    rules.received(trades(5, 10), 1, 0)
    ask(rules, 0)
    rules.answered(trades_body(5, 6, 9, 10), 0)
    records(outlet)
    rules.tick(ABSENT_AGAIN_MS - 1)
    assert rules.wanted(ABSENT_AGAIN_MS - 1) is None, "some time has to pass"
    assert params(ask(rules, ABSENT_AGAIN_MS))["first"] == "6"
    rules.answered(trades_body(6, 9), ABSENT_AGAIN_MS)
    assert shown(records(outlet)) == [
        ("confirmed", "absent", 7, 9),
        ("closed", "sequence_broken", 6, 7),
        ("closed", "sequence_broken", 9, 10),
    ]


def test_empty_answers_confirm_only_after_many_and_long() -> None:
    rules, outlet = begin()
    rules.received(trades(5, 7), 1, 0)
    now_ms, answers = 0, 0
    while not any(isinstance(each, Gap) and each.state is GapState.CONFIRMED for each in records(outlet)):
        now_ms = max(now_ms, rules.due_ms)
        rules.tick(now_ms)
        if rules.wanted(now_ms) is not None:
            rules.sent(now_ms)
            rules.answered(trades_body(), now_ms)
            answers += 1
    assert now_ms >= EMPTY_FOR_MS
    assert EMPTY_ANSWERS_MIN <= answers < 100


def test_failed_requests_are_repeated_after_growing_pauses_for_ever() -> None:
    rules, _ = begin()
    rules.received(trades(5, 7), 1, 0)
    now_ms, pauses = 0, []
    for _ in range(12):
        ask(rules, now_ms)
        rules.failed(now_ms)
        failed_ms = now_ms
        while rules.wanted(now_ms) is None:
            now_ms = max(now_ms + 1, rules.due_ms)
            rules.tick(now_ms)
        pauses.append(now_ms - failed_ms)
    assert max(pauses[:2]) < 5 * SECOND
    assert max(pauses) <= 60 * SECOND


def test_after_a_restart_what_the_ledger_lacks_is_a_gap() -> None:
    rules, outlet = begin(SequenceSpans([(5, 8, 500, 700), (10, 12, 1_000, 1_100)]))
    assert shown(records(outlet)) == [("open", "start", 8, 10)]
    rules.received(trades(15), 1, 0)
    assert shown(records(outlet)) == [("open", "start", 12, 15), 15]


def test_newer_trades_are_asked_for_after_a_silence_and_the_channel_is_subscribed_again() -> None:
    rules, outlet = begin()
    rules.received(trades(5), 1, 0)
    records(outlet)
    ask(rules, QUIET_MS)
    rules.answered(trades_body(5), QUIET_MS)
    assert outlet.resubscribes == []
    now_ms = rules.due_ms
    assert now_ms >= 2 * QUIET_MS, "an instrument that does not trade is asked for more and more seldom"
    ask(rules, now_ms)
    rules.answered(trades_body(5, 6, 7, 8), now_ms)
    assert shown(records(outlet)) == [("open", "silent", 6, 8), 8, 6, 7, ("closed", "silent", 6, 8)]
    assert outlet.resubscribes == [(feed(DataType.TRADE), 0)]


@pytest.mark.parametrize(
    ("sequence", "time_ms"), [(3, 50_000), (RESET_AHEAD + 1_000, 50_100)], ids=["low and newer", "absurdly high"]
)
def test_a_count_that_begins_again_is_a_reset(sequence: int, time_ms: int) -> None:
    rules, outlet = begin()
    rules.received(trades(498, 500), 1, 0)
    records(outlet)
    rules.received(Trades(BTC, [trade(sequence, time_ms + 10_000)]), 1, 0)
    gaps = [record for record in records(outlet) if isinstance(record, Gap)]
    assert [(gap.state, gap.reason) for gap in gaps] == [
        (GapState.CONFIRMED, "reset"),
        (GapState.CONFIRMED, "reset"),
    ]
    assert (gaps[1].from_ms, gaps[1].to_ms) == (50_000, time_ms + 10_000)
    rules.received(Trades(BTC, [trade(sequence + 1, time_ms + 10_001)]), 1, 0)
    assert shown(records(outlet)) == [sequence + 1]


def test_a_number_far_below_is_a_reset_whatever_its_time() -> None:
    rules, outlet = begin()
    rules.received(Trades(BTC, [trade(2 * RESET_BELOW, 9_000)]), 1, 0)
    rules.received(Trades(BTC, [trade(4, 9_000)]), 1, 0)
    assert outlet.counters["resets"] == 1


def test_a_known_number_with_another_time_shows_a_reset_that_nobody_saw() -> None:
    rules, outlet = begin()
    rules.received(trades(50), 1, 0)
    rules.received(Trades(BTC, [trade(60, 900_000)]), 1, 0)
    records(outlet)
    ask(rules, 0)
    rows = b'{"kind":"trades","rows":[[50,"x","1","1",800000],[51,"y","1","1",800001]]}'
    rules.answered(rows, 0)
    assert shown(records(outlet)) == [("confirmed", "reset", 51, 60)]
    rules.received(Trades(BTC, [trade(61, 900_001)]), 1, 0)
    assert shown(records(outlet)) == [61]


def test_the_oldest_part_of_an_endless_gap_is_confirmed_as_too_old() -> None:
    rules, outlet = begin()
    rules.received(trades(1), 1, 0)
    rules.received(Trades(BTC, [trade(BACKFILL_MAX + 12, 500)]), 1, 0)
    assert shown(records(outlet))[1:3] == [
        ("open", "sequence_broken", 2, BACKFILL_MAX + 12),
        ("confirmed", "too_old", 2, 12),
    ]


def test_the_oldest_of_too_many_holes_is_confirmed() -> None:
    rules, outlet = begin()
    for n in range(HOLES_MAX + 2):
        rules.received(trades(2 * n + 1), 1, 0)
    confirmed = [each for each in records(outlet) if isinstance(each, Gap) and each.state is GapState.CONFIRMED]
    assert [(gap.reason, gap.from_sequence, gap.to_sequence) for gap in confirmed] == [("too_many_holes", 2, 3)]
    assert rules.status().open_gaps == HOLES_MAX


def test_gaps_that_a_former_run_announced_go_on() -> None:
    outlet = Outlet()
    origin = Origin(
        SequenceSpans([(5, 7, 500, 700), (9, 12, 900, 1_100)]),
        (SequenceSpan(6, 9, 600, 900), SequenceSpan(11, 12, 1, 2)),
    )
    rules = TradeFeed(feed(DataType.TRADE), venue(), origin, outlet, chance())
    rules.tick(0)
    assert shown(records(outlet)) == [
        ("open", "start", 6, 9),
        ("open", "start", 11, 12),
        ("closed", "start", 11, 12),
    ]
    ask(rules, 0)
    rules.answered(trades_body(6, 7, 8, 9), 0)
    assert shown(records(outlet)) == [7, 8, ("closed", "start", 6, 9)]


def again(sequence: int, time_ms: int) -> Trade:
    return replace(trade(sequence, time_ms), trade_id=f"again {sequence}")


def test_two_counts_that_begin_within_two_seconds_are_two_resets() -> None:
    rules, outlet = begin()
    rules.received(trades(500), 1, 0)
    rules.received(Trades(BTC, [trade(1, 60_000), trade(2, 60_000)]), 1, 0)
    rules.received(Trades(BTC, [trade(2, 60_000)]), 2, 0)
    records(outlet)
    assert outlet.counters["duplicates"] == 1, "the same trade by another socket"
    rules.received(Trades(BTC, [again(1, 60_500)]), 1, 0)
    rules.received(Trades(BTC, [again(2, 60_500), again(3, 60_600)]), 1, 0)
    found = records(outlet)
    assert shown(found) == [("confirmed", "reset", None, None), 1, 2, 3]
    assert isinstance(found[0], Gap)
    assert (found[0].from_ms, found[0].to_ms) == (60_000, 60_500)


def test_a_count_that_begins_unseen_and_has_overtaken_the_former_one_is_a_reset() -> None:
    rules, outlet = begin()
    rules.received(Trades(BTC, [trade(7, 60_000), trade(8, 60_000)]), 1, 0)
    rules.received(Trades(BTC, [again(12, 61_000)]), 1, 0)
    records(outlet)
    ask(rules, 0)
    rows = [[each, f"again {each}", "10.5", "1", 60_900] for each in range(8, 13)]
    rules.answered(msgspec.json.encode({"kind": "trades", "rows": rows}), 0)
    [gap] = records(outlet)
    assert shown([gap]) == [("confirmed", "reset", 9, 12)]
    assert isinstance(gap, Gap)
    assert (gap.from_ms, gap.to_ms) == (60_000, 61_000), "the trades of the new count before it lie within"


def test_the_gap_of_a_former_count_whose_end_was_not_stored_is_confirmed_after_a_restart() -> None:
    outlet, ledger = Outlet(), SequenceLedger()
    ledger.store(feed(DataType.TRADE), 37, 40, 4_000)
    ledger.announce(Gap(feed(DataType.TRADE), GapState.OPEN, GapReason.SILENT, 1_000, 3_000, 3_000, 25, 37))
    rules = TradeFeed(feed(DataType.TRADE), venue(), ledger.origin(feed(DataType.TRADE)), outlet, chance())
    rules.tick(5_000)
    [gap] = records(outlet)
    assert shown([gap]) == [("confirmed", "reset", 25, 37)]
    ledger.record(gap)
    ledger.record(trade(40, 6_000))
    assert ledger.known(feed(DataType.TRADE)).first == 37, "the present count goes on"
    assert ledger.exchanges() == set()
