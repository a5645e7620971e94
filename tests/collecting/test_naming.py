"""Subjects, ids and headers of messages: what readers rely on."""

from dataclasses import dataclass

import msgspec
import pytest

from app.collecting import naming
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument, Market
from app.domain.records import (
    BookSnapshot,
    DataType,
    Feed,
    FundingRate,
    Gap,
    GapState,
    KlineRecord,
    OpenInterest,
    Record,
    Ticker,
)
from tests.collecting.stream import AT_MS, BTC, delta, snapshot, ticker, trade

KLINE = KlineRecord(BTC, "1m", AT_MS, "1", "2", "0.5", "1.5", "10", True, AT_MS + 60_000, AT_MS)
FUNDING = FundingRate(BTC, "0.0001", AT_MS, AT_MS, AT_MS, True)
INTEREST = OpenInterest(BTC, "1.5", "150", AT_MS, AT_MS)
GAP = Gap(Feed(BTC, DataType.TRADE), GapState.OPEN, GapReason.DISCONNECTED, AT_MS, AT_MS + 5, AT_MS, 7, 9)


@dataclass
class Named:
    record: Record
    subject: str
    message_id: str


NAMED = [
    Named(trade(7), "trade", "trade/7"),
    Named(snapshot(5), "orderbook", "orderbook/1-5"),
    Named(delta(6), "orderbook", "orderbook/1-6"),
    Named(KLINE, "kline.1m", f"kline.1m/{AT_MS}-final"),
    Named(FUNDING, "funding_rate", f"funding_rate/{AT_MS}-final"),
    Named(GAP, "gap", "gap/trade/7-9-open"),
    Named(
        msgspec.structs.replace(GAP, from_sequence=None, to_sequence=None, feed=Feed(BTC, DataType.KLINE, "1h")),
        "gap",
        f"gap/kline.1h/{AT_MS}ms-{AT_MS + 5}ms-open",
    ),
]


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.subject)
def test_a_record_has_its_subject_and_id(named: Named) -> None:
    assert naming.subject(named.record) == f"market.binance.BTC-USDT.{named.subject}"
    assert naming.message_id(named.record) == f"binance/swap/BTC-USDT/{named.message_id}"


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (ticker(1), {"last_price": "2"}),
        (ticker(1), {"index_price": "2"}),
        (ticker(1), {"timestamp_ms": AT_MS}),
        (INTEREST, {"amount": "151"}),
        (msgspec.structs.replace(KLINE, is_final=False), {"close": "1.6"}),
        (msgspec.structs.replace(KLINE, is_final=False), {"is_final": True}),
        (msgspec.structs.replace(FUNDING, is_final=False), {"rate": "0.0002"}),
        (msgspec.structs.replace(FUNDING, is_final=False), {"is_final": True}),
        (GAP, {"state": GapState.CLOSED}),
        (GAP, {"to_sequence": 10}),
        (trade(1), {"instrument": Instrument("binance", Market.SPOT, "BTC-USDT", "BTCUSDT")}),
    ],
)
def test_another_content_has_another_id(record: Record, changes: dict[str, object]) -> None:
    other = msgspec.structs.replace(record, **changes)
    assert naming.message_id(other) != naming.message_id(record)


@pytest.mark.parametrize("record", [trade(1), ticker(1), INTEREST, KLINE, FUNDING, snapshot(1)])
def test_what_was_received_again_has_the_same_id(record: Ticker | BookSnapshot) -> None:
    assert naming.message_id(msgspec.structs.replace(record, received_ms=1)) == naming.message_id(record)


def test_a_batch_with_a_hole_has_no_id() -> None:
    assert naming.batch_id([trade(1), trade(2)]) == "binance/swap/BTC-USDT/trade/1-2"
    with pytest.raises(AssertionError, match="a batch has no hole"):
        naming.batch_id([trade(1), trade(3)])


def test_names_with_the_signs_of_subjects_stay_one_word() -> None:
    odd = Instrument("x", Market.SPOT, "A.B>C *%41", "n")
    assert naming.subject(trade(1, odd)) == "market.x.A%2EB%3EC%20%2A%2541.trade"
    assert naming.subject(trade(1, Instrument("x", Market.SPOT, "币安-USDT", "n"))) == "market.x.币安-USDT.trade"


def test_headers_say_form_market_and_time() -> None:
    assert naming.headers("trade/1", BTC, 5) == (
        ("Klinenode-Schema", "trade/1"),
        ("Klinenode-Market", "swap"),
        ("Klinenode-Time", "5"),
    )
