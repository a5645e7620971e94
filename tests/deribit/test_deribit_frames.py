"""Deribit's frames become events with the exchange's digits, and garbage is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.instrument import Instrument
from app.domain.market_events import Accepted, Alive, BookUpdate, Event, Refused, Reply, Trades
from app.domain.records import FundingRate, KlineRecord, Level, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable
from tests.deribit.frames import ALL, FUTURE, INVERSE, LINEAR, SPOT, push, trade, venue

ROUTE = "/ws/api/v2"
AT_MS = 1_798_000_000_000
TICKER = (
    f'{{"timestamp":{AT_MS},"stats":{{"volume_usd":1,"volume":1234.50,"price_change":null,"low":60000.0,"high":63000.5}},'
    '"state":"open","settlement_price":1,"open_interest":125000000,"min_price":1,"max_price":2,"mark_price":62500.00,'
    '"last_price":62510.0,"interest_value":0.1,"instrument_name":"x","index_price":62490.12,"funding_8h":1e-05,'
    '"estimated_delivery_price":1,"current_funding":-1.50E-7,"best_bid_price":62500.0,"best_bid_amount":10.0,'
    '"best_ask_price":62500.5,"best_ask_amount":20}'
)
BOOK = (
    f'{{"type":"change","timestamp":{AT_MS},"instrument_name":"x","change_id":9,"prev_change_id":8,'
    '"bids":[["new",62500.0,170.0],["delete",62000.5,0.0]],"asks":[["change",6.3e4,1.5E+2]]}'
)

PLAIN_BOOK = BOOK.replace("6.3e4", "63000.0").replace("1.5E+2", "150.0")


def read(frame: bytes) -> list[Event]:
    return list(venue().read(ROUTE, frame, 7))


@pytest.mark.parametrize(
    ("instrument", "quantity"), [(INVERSE, "0.00272"), (FUTURE, "0.00272"), (LINEAR, "170.0"), (SPOT, "170.0")]
)
def test_a_trade_keeps_its_digits_and_counts_coins(instrument: Instrument, quantity: str) -> None:
    (event,) = read(push(f"trades.{instrument.native}.100ms", f"[{trade(5)}]"))
    one = Trade(instrument, 5, "t5", "62500.0", quantity, "170.0", AT_MS + 5, 7, is_buyer_maker=False)
    assert event == Trades(instrument, [one])


@pytest.mark.parametrize(
    ("printed", "text"),
    [("10", "10"), ("0.10", "0.10"), ("1E-7", "0.0000001"), ("1e-7", "0.0000001"), ("1.5e3", "1500"), ("7e0", "7")],
)
def test_a_number_is_never_rounded(printed: str, text: str) -> None:
    (event,) = read(push("trades.BTC_USDC.100ms", f"[{trade(5, price=printed, amount=printed)}]"))
    assert isinstance(event, Trades)
    assert (event.trades[0].price, event.trades[0].quantity) == (text, text)


def test_several_trades_of_a_frame_stay_in_order_and_the_maker_of_a_sell_is_the_buyer() -> None:
    (event,) = read(push("trades.BTC-PERPETUAL.100ms", f"[{trade(5, direction='sell')},{trade(6)}]"))
    assert isinstance(event, Trades)
    assert [(one.sequence, one.is_buyer_maker) for one in event.trades] == [(5, True), (6, False)]


@pytest.mark.parametrize(
    "frame",
    [
        push("trades.BTC_USDC.100ms", f"[{trade(5)}]"),
        push("book.BTC_USDC.100ms", PLAIN_BOOK),
    ],
)
def test_fields_may_come_in_any_order(frame: bytes) -> None:
    whole = json.loads(frame)
    assert read(json.dumps(dict(reversed(whole.items()))).encode()) == read(frame)


def test_a_change_of_a_book_follows_the_change_before_it() -> None:
    bids, asks = [Level("62500", "170.0"), Level("62000.5", "0")], [Level("63000", "150")]
    expected = BookUpdate(INVERSE, False, 9, 9, 8, bids, asks, AT_MS, 7)
    (event,) = read(push("book.BTC-PERPETUAL.100ms", BOOK))
    assert event == expected
    assert isinstance(event, BookUpdate)


def test_a_snapshot_of_a_book_follows_nothing() -> None:
    snapshot = BOOK.replace('"change","timestamp"', '"snapshot","timestamp"').replace('"prev_change_id":8,', "")
    (event,) = read(push("book.BTC-PERPETUAL.100ms", snapshot))
    assert isinstance(event, BookUpdate)
    assert (event.is_snapshot, event.previous, event.last) == (True, None, 9)


def test_a_change_without_its_predecessor_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="prev_change_id"):
        read(push("book.BTC-PERPETUAL.100ms", BOOK.replace('"prev_change_id":8,', "")))


def test_a_ticker_tells_the_funding_rate_and_the_open_interest_too() -> None:
    ticker, rate, interest = read(push("ticker.BTC-PERPETUAL.100ms", TICKER))
    assert ticker == Ticker(
        *(INVERSE, AT_MS, 7, "62510.0", "62500.0", "0.00016", "62500.5", "0.00031999744", "63000.5", "60000.0"),
        *("1234.50", "62500.00", "62490.12"),
    )
    hour_ms = 3_600_000
    assert rate == FundingRate(INVERSE, "-0.000000150", (AT_MS // hour_ms + 1) * hour_ms, AT_MS, 7, is_final=False)
    assert interest == OpenInterest(INVERSE, "2000", "125000000", AT_MS, 7)


def test_a_ticker_of_coins_needs_no_price_and_a_dated_future_has_no_funding() -> None:
    ticker, _, interest = read(push("ticker.BTC_USDC-PERPETUAL.100ms", TICKER))
    assert isinstance(ticker, Ticker)
    assert (ticker.best_bid_quantity, ticker.best_ask_quantity) == ("10.0", "20")
    assert interest == OpenInterest(LINEAR, "125000000", "125000000", AT_MS, 7)
    dated = read(push("ticker.BTC-25DEC26.100ms", TICKER))
    assert [type(event) for event in dated] == [Ticker, OpenInterest]
    assert [type(event) for event in read(push("ticker.BTC_USDC.100ms", TICKER))] == [Ticker]


def test_a_ticker_of_an_empty_market_has_holes() -> None:
    none = '"last_price":null,"best_bid_price":0.0,"best_bid_amount":0.0'
    empty = f'{{"timestamp":{AT_MS},"stats":{{"volume":null}},{none}}}'
    assert read(push("ticker.BTC-PERPETUAL.100ms", empty)) == [Ticker(INVERSE, AT_MS, 7)]


def test_a_streamed_candle_is_never_final() -> None:
    data = (
        '{"volume":0.23594088,"tick":120000,"open":45657.0,"low":45642.5,"high":45657.0,"cost":10770.0,"close":45643.5}'
    )
    assert read(push("chart.trades.BTC-PERPETUAL.1", data)) == [
        KlineRecord(
            *(INVERSE, "1m", 120_000, "45657.0", "45657.0", "45642.5", "45643.5", "0.23594088"),
            is_final=False,
            timestamp_ms=7,
            received_ms=7,
            quote_volume="10770.0",
        )
    ]


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (
            b'{"jsonrpc":"2.0","id":6,"result":["book.BTC-PERPETUAL.100ms"],"usIn":1}',
            Accepted(3, ("book.BTC-PERPETUAL.100ms",)),
        ),
        (b'{"jsonrpc":"2.0","id":6,"result":[]}', Accepted(3, ())),
        (b'{"jsonrpc":"2.0","id":7,"result":["book.BTC-PERPETUAL.100ms"]}', Alive()),
        (b'{"jsonrpc":"2.0","id":7,"result":"ok"}', Alive()),
        (b'{"jsonrpc":"2.0","id":7,"result":{"version":"1.2.26"}}', Alive()),
        (
            b'{"jsonrpc":"2.0","id":6,"error":{"message":"Invalid params","data":{"reason":"x"},"code":-32602}}',
            Refused(3, -32602, "Invalid params"),
        ),
        (
            b'{"jsonrpc":"2.0","error":{"message":"too_many_requests","code":10028}}',
            Refused(None, 10028, "too_many_requests"),
        ),
        (b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', Alive()),
        (b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"platform_state","data":{}}}', Alive()),
        (
            b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"chart.trades.BTC-PERPETUAL.7","data":{}}}',
            Alive(),
        ),
        (b"{}", Alive()),
    ],
)
def test_what_is_no_market_data_is_understood(frame: bytes, event: Event) -> None:
    assert read(frame) == [event]


def test_a_test_request_demands_a_test() -> None:
    (reply,) = read(b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}')
    assert isinstance(reply, Reply)
    assert json.loads(reply.text)["method"] == "public/test"


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"[]", b"\xff", b"null", b'{"jsonrpc":', b"[" * 100_000),
        push("trades.BTC_USDC.100ms", f"[{trade(5)},{trade(6, price='null')}]"),
        push("trades.BTC_USDC.100ms", f"[{trade(5, price='-1')}]"),
        push("trades.BTC_USDC.100ms", f"[{trade(5, price='-1.5')}]"),
        push("trades.BTC_USDC.100ms", f"[{trade(5, amount='1e99')}]"),
        push("trades.BTC_USDC.100ms", f"[{trade(5, amount='true')}]"),
        push("trades.BTC_USDC.100ms", f"[{trade(5, amount='[1]')}]"),
        push("trades.BTC-PERPETUAL.100ms", f"[{trade(5, price='0')}]"),
        push("trades.BTC-PERPETUAL.100ms", f"[{trade(5, direction='zero')}]"),
        push("trades.ETH-PERPETUAL.100ms", f"[{trade(5)}]"),
        push("book.ETH-PERPETUAL.100ms", BOOK),
        push("book.BTC-PERPETUAL.100ms", BOOK.replace("170.0", "null")),
        push("book.BTC-PERPETUAL.100ms", BOOK.replace("170.0", "{}")),
        push("book.BTC-PERPETUAL.100ms", BOOK.replace('"new"', '"old"')),
        push("ticker.BTC-PERPETUAL.100ms", TICKER.replace("62510.0", '"x"')),
        push("chart.trades.BTC-PERPETUAL.1", '{"tick":1,"open":1,"high":1,"low":1,"close":1,"volume":1,"cost":1}'),
    ],
)
def test_one_bad_element_makes_a_frame_unreadable(frame: bytes) -> None:
    with pytest.raises(Unreadable):
        read(frame)


@given(st.binary(max_size=60))
def test_any_bytes_give_events_or_are_unreadable(noise: bytes) -> None:
    deribit = venue()
    frame = push("trades.BTC-PERPETUAL.100ms", f"[{trade(5)}]")
    for damaged in (noise, frame[: len(noise) * 3] + noise, noise + frame, frame.replace(b"62500.0", noise)):
        try:
            deribit.read(ROUTE, damaged, 1)
        except Unreadable:
            continue


@given(st.data())
def test_a_damaged_frame_is_never_another_exception(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [push(f"trades.{one.native}.100ms", f"[{trade(5)}]") for one in ALL]
            + [push("book.BTC-PERPETUAL.100ms", BOOK), push("ticker.BTC-PERPETUAL.100ms", TICKER)]
        )
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    try:
        venue().read(ROUTE, whole[:at] + data.draw(st.binary(min_size=1, max_size=1)) + whole[at + 1 :], 1)
    except Unreadable:
        return
