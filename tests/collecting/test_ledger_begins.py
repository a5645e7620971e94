"""A feed is in the ledger before its first record is published."""

from app.collecting.ledger import SequenceLedger
from app.domain.instrument import Instrument, Market
from app.domain.records import DataType, Feed, KlineRecord, Trade

BTC = Instrument("okx", Market.SWAP, "BTC-USDT", "BTC-USDT-SWAP")
FEED = Feed(BTC, DataType.TRADE)


def trade(sequence: int) -> Trade:
    return Trade(BTC, sequence, str(sequence), "1", "1", "1", 1_000 * sequence, 1_000 * sequence, is_buyer_maker=False)


def kline(open_ms: int, *, is_final: bool) -> KlineRecord:
    return KlineRecord(BTC, "1m", open_ms, "1", "1", "1", "1", "1", is_final, open_ms, open_ms)


def test_the_first_trade_is_missing_until_it_is_stored() -> None:
    ledger = SequenceLedger()
    assert ledger.begins(trade(100))
    again = SequenceLedger.from_text(ledger.to_text())
    assert not again.begins(trade(105))
    assert [(hole.first, hole.end) for hole in again.missing(FEED, 105)] == [(100, 105)]
    for sequence in range(100, 105):
        again.record(trade(sequence))
    assert again.missing(FEED, 105) == []


def test_only_what_is_final_begins_a_feed_of_klines() -> None:
    ledger = SequenceLedger()
    assert not ledger.begins(kline(60_000_000, is_final=False))
    assert ledger.begins(kline(60_000_000, is_final=True))
    assert not ledger.begins(kline(60_060_000, is_final=True))
