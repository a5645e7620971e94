"""The ledger holds what is stored or confirmed absent, survives as text, and never forgets a hole in silence."""

import pytest
from msgspec.structs import replace

from app.collecting.ledger import FUNDING_POINTS_MS, HOLES_MAX, LedgerUnreadable, SequenceLedger
from app.domain.gap_reason import GapReason
from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.records import BookDelta, DataType, Feed, FundingRate, Gap, GapState, KlineRecord
from tests.collecting.made import BTC, feed, trade

TRADES = feed(DataType.TRADE)


def bounds(ledger: SequenceLedger, of: Feed = TRADES) -> list[tuple[int, int]]:
    return [(span.first, span.end) for span in ledger.known(of)]


def test_what_lies_between_the_first_and_an_end_and_is_not_stored_is_missing() -> None:
    ledger = SequenceLedger()
    assert ledger.missing(TRADES, 100) == []
    ledger.store(TRADES, 10, 20, 2_000)
    ledger.store(TRADES, 30, 31, 3_000)
    assert [(hole.first, hole.end) for hole in ledger.missing(TRADES, 35)] == [(20, 30), (31, 35)]
    assert ledger.newest_ms(TRADES) == 3_000


def test_a_stored_record_is_stored_by_its_kind() -> None:
    ledger = SequenceLedger()
    kline = KlineRecord(BTC, "1m", 5 * MINUTE_MS, "1", "1", "1", "1", "0", False, 1, 1)
    for record in (
        trade(7),
        kline,
        replace(kline, is_final=True),
        FundingRate(BTC, "0.1", 8 * HOUR_MS, 1, 1, False),
        FundingRate(BTC, "0.1", 16 * HOUR_MS, 1, 1, True),
        BookDelta(BTC, 1, 1, (), (), 5, 77, 78),
        Gap(TRADES, GapState.OPEN, GapReason.SEQUENCE_BROKEN, 700, 900, 900, 8, 9),
        Gap(TRADES, GapState.CONFIRMED, GapReason.ABSENT, 700, 900, 900, 8, 9),
    ):
        assert ledger.record(record) == []
    assert bounds(ledger) == [(7, 9)]
    assert bounds(ledger, feed(DataType.KLINE)) == [(5, 6)]
    assert bounds(ledger, feed(DataType.FUNDING_RATE)) == [(16 * HOUR_MS, 16 * HOUR_MS + 1)]
    assert ledger.newest_ms(feed(DataType.ORDERBOOK)) == 77


def test_a_gap_that_opens_before_anything_was_stored_is_still_missing_after_a_restart() -> None:
    ledger = SequenceLedger()
    ledger.record(Gap(feed(DataType.KLINE), GapState.OPEN, GapReason.MISSING, 300_000, 360_000, 400_000, 5, 6))
    again = SequenceLedger.from_text(ledger.to_text())
    assert [(hole.first, hole.end) for hole in again.missing(feed(DataType.KLINE), 8)] == [(5, 8)]


def test_paid_rates_are_points_for_two_days_and_then_one_span() -> None:
    ledger = SequenceLedger()
    for hour in range(100):
        ledger.record(FundingRate(BTC, "0.1", (hour + 1) * HOUR_MS, 1, 1, True))
    spans = bounds(ledger, feed(DataType.FUNDING_RATE))
    assert spans[0] == (HOUR_MS, 100 * HOUR_MS + 1 - FUNDING_POINTS_MS)
    assert len(spans) == FUNDING_POINTS_MS // HOUR_MS + 1


def test_a_stored_reset_begins_the_feed_again() -> None:
    ledger = SequenceLedger()
    ledger.store(TRADES, 1_000, 2_000, 5_000)
    ledger.record(Gap(TRADES, GapState.CONFIRMED, GapReason.RESET, 5_000, 6_000, 6_000))
    ledger.record(trade(1_999, 4_900))
    assert bounds(ledger) == [(1_000, 2_000)], "until something of the new count is stored, a restart must see the old"
    ledger.record(trade(3, 6_000))
    assert bounds(ledger) == [(3, 4)]


def test_as_text_it_is_the_same_ledger_even_if_the_instrument_changed() -> None:
    ledger = SequenceLedger()
    ledger.store(TRADES, 10, 20, 2_000, 1_000)
    ledger.store(TRADES, 30, 31, 3_000)
    again = SequenceLedger.from_text(ledger.to_text())
    changed = Feed(replace(BTC, contract_size="0.01"), DataType.TRADE)
    assert list(again.known(changed)) == list(ledger.known(TRADES))
    assert again.newest_ms(changed) == 3_000
    assert again.to_text() == ledger.to_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"version":9,"feeds":[]}',
        '{"version":1,"feeds":[{"key":["a","swap","b","trade",""],"newest_ms":1,"spans":[[3,3,0,0]]}]}',
    ],
)
def test_a_text_that_is_no_ledger_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(LedgerUnreadable, match="move the file away"):
        SequenceLedger.from_text(text)


def test_the_oldest_of_too_many_holes_is_given_up_by_a_gap_that_is_told_once_and_only_counts_when_stored() -> None:
    ledger = SequenceLedger()
    gaps = [gap for n in range(HOLES_MAX + 2) for gap in ledger.store(TRADES, 2 * n, 2 * n + 1, n)]
    assert [(gap.state, gap.reason, gap.from_sequence, gap.to_sequence) for gap in gaps] == [
        (GapState.CONFIRMED, "too_many_holes", 1, 2)
    ]
    assert bounds(ledger)[0] == (0, 1)
    ledger.record(gaps[0])
    assert bounds(ledger)[0] == (0, 3)


@pytest.mark.parametrize("feed", [Feed(BTC, DataType.TICKER), Feed(BTC, DataType.ORDERBOOK)])
def test_a_gap_of_a_feed_without_sequences_is_remembered_from_its_beginning(feed: Feed) -> None:
    ledger = SequenceLedger()
    ledger.record(Gap(feed, GapState.OPEN, GapReason.DISCONNECTED, 7_000, 9_000, 9_000))
    assert ledger.newest_ms(feed) == 7_000, "a restart must announce a gap that contains this one"
