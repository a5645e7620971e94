"""The bodies of messages, in the documented form and to the digit."""

import json

import pytest

from app.collecting.encoding import TRADE_COLUMNS, batch_message, iso, message
from app.collecting.plans import BYTES_MAX, StreamLimits, stream_plans
from app.domain.instrument import Instrument, Market, Unit
from app.domain.records import BookDelta, Gap, Level, Record, Ticker
from tests.collecting.stream import AT_MS, BTC, snapshot, trade
from tests.collecting.test_naming import FUNDING, GAP, INTEREST, KLINE, NAMED

CONTRACTS = Instrument("okx", Market.SWAP, "BTC-USDT", "BTC-USDT-SWAP", Unit.CONTRACT, "0.01")
WHO = {"exchange_name": "binance", "symbol_name": "BTCUSDT", "symbol": "BTC-USDT", "market": "swap"}
TIMES = {"timestamp": "2026-11-21T04:30:00Z", "received": "2026-11-21T04:30:00Z"}


def body(record: Record) -> dict[str, object]:
    found: dict[str, object] = json.loads(message(record).body)
    return found


def test_times_have_milliseconds_when_there_are_some() -> None:
    assert iso(AT_MS) == "2026-11-21T04:30:00Z"
    assert iso(AT_MS + 7) == "2026-11-21T04:30:00.007Z"
    assert iso(0) == "1970-01-01T00:00:00Z"


def test_a_trade_has_the_documented_fields_and_its_own() -> None:
    assert body(trade(7)) == {
        **WHO,
        "trade_id": "7",
        "price": "60000.1",
        "quantity": "0.10",
        "timestamp": "2026-11-21T04:30:00.007Z",
        "is_buyer_maker": False,
        "sequence": 7,
        "amount": "0.10",
        "amount_unit": "coin",
        "received": "2026-11-21T04:30:00Z",
    }


def test_a_batch_has_the_common_fields_once_and_a_row_for_each_trade() -> None:
    sent = batch_message([trade(7), trade(8)])
    found = json.loads(sent.body)
    rows = found.pop("trades")
    assert found == {"schema": "trades/1", **WHO, "amount_unit": "coin"}
    assert dict(zip(TRADE_COLUMNS, rows[1], strict=True)) == {
        "sequence": 8,
        "trade_id": "8",
        "price": "60000.1",
        "quantity": "0.10",
        "amount": "0.10",
        "timestamp_ms": AT_MS + 8,
        "received_ms": AT_MS,
        "is_buyer_maker": False,
    }
    assert sent.message_id == "binance/swap/BTC-USDT/trade/7-8"
    assert sent.headers[0] == ("Klinenode-Schema", "trades/1")


def test_levels_of_a_book_are_in_coins_with_the_amount_beside() -> None:
    book = BookDelta(CONTRACTS, 3, 9, (Level("60000.1", "150"),), (Level("60000.2", "0"),), 77, AT_MS, AT_MS)
    found = body(book)
    assert found["bids"] == [{"price": "60000.1", "quantity": "1.5", "amount": "150"}]
    assert found["asks"] == [{"price": "60000.2", "quantity": "0", "amount": "0"}]
    assert (found["is_snapshot"], found["epoch"], found["sequence"], found["native_sequence"]) == (False, 3, 9, 77)
    assert found["amount_unit"] == "contract"
    assert body(snapshot(1))["is_snapshot"] is True


def test_states_leave_out_what_the_exchange_does_not_give() -> None:
    assert body(Ticker(BTC, AT_MS, AT_MS, last_price="1.10")) == {**WHO, "last_price": "1.10", **TIMES}
    assert body(INTEREST) == {**WHO, "quantity": "1.5", "amount": "150", "amount_unit": "coin", **TIMES}
    assert body(FUNDING) == {**WHO, "rate": "0.0001", "funding_time": TIMES["timestamp"], "is_final": True, **TIMES}


def test_a_kline_and_a_gap_say_their_span() -> None:
    kline = body(KLINE)
    assert (kline["interval"], kline["open_time"], kline["open"]) == ("1m", "2026-11-21T04:30:00Z", "1")
    assert (kline["is_final"], kline["timestamp"]) == (True, "2026-11-21T04:31:00Z")
    assert "trades" not in kline
    assert body(GAP) == {
        **WHO,
        "data_type": "trade",
        "state": "open",
        "reason": "disconnected",
        "from": "2026-11-21T04:30:00Z",
        "to": "2026-11-21T04:30:00.005Z",
        "from_sequence": 7,
        "to_sequence": 9,
        "received": "2026-11-21T04:30:00Z",
    }


def test_no_body_has_a_number_that_is_a_price() -> None:
    for named in NAMED:
        for name, value in body(named.record).items():
            assert not isinstance(value, float), name
            is_count = name in {"sequence", "native_sequence", "epoch", "from_sequence", "to_sequence"}
            assert is_count or isinstance(value, str | bool | list), name
            assert not isinstance(named.record, Gap) or name != "price"


def test_the_streams_have_room_on_a_server_of_two_gibibytes_and_every_subject_one_place() -> None:
    plans = stream_plans(StreamLimits())
    assert sum(plan.bytes_max for plan in plans) <= BYTES_MAX < 2 * 1024**3
    kinds = [subject.split(".", 3)[3] for plan in plans for subject in plan.subjects]
    assert sorted(kinds) == ["funding_rate", "gap", "kline.*", "open_interest", "orderbook", "ticker", "trade"]
    assert all(plan.window_s <= plan.age_s for plan in plans)


def test_a_window_longer_than_the_age_is_refused() -> None:
    with pytest.raises(ValueError, match="raise NATS_MAX_AGE_HOURS or lower NATS_DUPLICATE_WINDOW_SEC"):
        stream_plans(StreamLimits(age_s=60, window_s=61))
