"""A gap ends, also when its feed is followed no longer: at once, and after a restart."""

from app.collecting.ledger import SequenceLedger
from app.domain.gap_reason import GapReason
from app.domain.records import DataType, Feed, Gap, GapState, Ticker
from tests.collecting.made import BTC, feed, trade

TRADES = feed(DataType.TRADE)
TICKER = feed(DataType.TICKER)


def opened(of: Feed, from_ms: int, first: int | None = None, end: int | None = None) -> Gap:
    return Gap(of, GapState.OPEN, GapReason.DISCONNECTED, from_ms, from_ms + 100, from_ms + 100, first, end)


def restarted(ledger: SequenceLedger) -> SequenceLedger:
    return SequenceLedger.from_text(ledger.to_text())


def ends(ledger: SequenceLedger, *followed: Feed) -> list[tuple[object, ...]]:
    gaps = ledger.ends("model", followed, 5_000)
    assert all(gap.reason is GapReason.UNSUBSCRIBED and gap.feed.instrument.symbol == BTC.symbol for gap in gaps)
    return [(gap.feed.data_type, gap.state, gap.from_sequence, gap.to_sequence, gap.from_ms) for gap in gaps]


def test_after_a_restart_the_open_gaps_of_what_nobody_follows_are_ended() -> None:
    ledger = SequenceLedger()
    ledger.record(trade(5))
    ledger.announce(opened(TRADES, 500, 6, 9))
    ledger.announce(opened(TICKER, 700))
    ledger.record(trade(6))
    again = restarted(ledger)
    assert again.exchanges() == {"model"}
    assert ends(again, TRADES, TICKER) == []
    assert ends(again, TRADES) == [(DataType.TICKER, GapState.ABANDONED, None, None, 700)]
    assert ends(again, TICKER) == [
        (DataType.TRADE, GapState.ABANDONED, 7, 9, 500),
        (DataType.TRADE, GapState.CLOSED, 6, 7, 500),
    ]


def test_a_gap_is_open_until_its_end_is_stored() -> None:
    ledger = SequenceLedger()
    ledger.announce(opened(TRADES, 500, 6, 9))
    ledger.announce(opened(TICKER, 700))
    [ticker, *of_trades] = sorted(
        ledger.ends("model", (), 5_000), key=lambda gap: gap.feed.data_type != TICKER.data_type
    )
    ledger.announce(ticker)
    assert len(ends(restarted(ledger))) == 2, "announced is not stored"
    for gap in (ticker, *of_trades):
        ledger.record(gap)
    assert ends(restarted(ledger)) == []
    assert [(hole.first, hole.end) for hole in ledger.missing(TRADES, 9)] == [(6, 9)], "followed again, it is fetched"


def test_the_end_of_a_gap_by_time_ends_none_that_began_later() -> None:
    ledger = SequenceLedger()
    ledger.record(Ticker(BTC, 700, 700))
    ledger.announce(opened(TICKER, 700))
    ledger.announce(opened(TICKER, 900))
    assert ledger.origin(TICKER).newest_ms == 700
    ledger.record(Gap(TICKER, GapState.CONFIRMED, GapReason.START, 700, 900, 950))
    assert [each[-1] for each in ends(ledger)] == [900]


def test_what_was_refused_is_missing_until_its_gap_ends() -> None:
    ledger = SequenceLedger()
    ledger.record(trade(5))
    ledger.refuse(trade(6))
    ledger.refuse(trade(7))
    ledger.record(trade(8))
    assert [(span.first, span.end) for span in ledger.origin(TRADES).open] == [(6, 8)]
    assert ends(restarted(ledger)) == [(DataType.TRADE, GapState.ABANDONED, 6, 8, 600)]
