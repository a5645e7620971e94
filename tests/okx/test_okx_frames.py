"""OKX's frames become events with the exchange's digits, and garbage is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.instrument import Instrument
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Trades
from app.domain.records import FundingRate, KlineRecord, Level, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable
from tests.okx.frames import ALL, FUTURE, INVERSE, LINEAR, SPOT, push, trade, venue

ROUTE = "/ws/v5/public"
TICKER = {
    "instType": "SWAP",
    "last": "62500",
    "lastSz": "1",
    "askPx": "62500.1",
    "askSz": "12",
    "bidPx": "62500",
    "bidSz": "4",
    "open24h": "61000",
    "high24h": "63000.5",
    "low24h": "60000",
    "volCcy24h": "2620.289",
    "vol24h": "779573",
    "sodUtc0": "1",
    "sodUtc8": "1",
    "ts": "1798000000000",
}


def read(frame: bytes) -> list[Event]:
    return list(venue().read(ROUTE, frame, 7))


@pytest.mark.parametrize(
    ("instrument", "quantity"),
    [(SPOT, "3"), (LINEAR, "0.03"), (INVERSE, "0.00479999232"), (FUTURE, "0.00479999232")],
)
def test_a_trade_keeps_its_digits_and_counts_coins(instrument: Instrument, quantity: str) -> None:
    (trades,) = read(push("trades-all", instrument, trade(130639474)))
    at_ms = 1_798_130_639_474
    one = Trade(instrument, 130639474, "130639474", "62500.1", quantity, "3", at_ms, 7, is_buyer_maker=False)
    assert trades == Trades(instrument, [one])


def test_the_maker_of_a_sell_is_the_buyer() -> None:
    (trades,) = read(push("trades-all", SPOT, trade(1, side="sell"), trade(2)))
    assert isinstance(trades, Trades)
    assert [one.is_buyer_maker for one in trades.trades] == [True, False]


def test_fields_may_come_in_any_order() -> None:
    frame = json.loads(push("trades-all", LINEAR, trade(5)))
    turned = json.dumps(dict(reversed(frame.items()))).encode()
    assert read(turned) == read(push("trades-all", LINEAR, trade(5)))
    book = {"asks": [], "bids": [["1", "2", "0", "1"]], "ts": "5", "seqId": 2, "prevSeqId": 1}
    frame = json.loads(push("books", LINEAR, book, action="update"))
    turned = json.dumps(dict(reversed(frame.items()))).encode()
    assert read(turned) == read(push("books", LINEAR, book, action="update"))


def test_a_book_update_follows_the_frame_before_it_and_a_snapshot_follows_none() -> None:
    book = {
        "asks": [["30249.4", "0", "0", "0"], ["30261", "4.50", "0", "1"]],
        "bids": [["30182.6", "452", "0", "1"]],
        "ts": "1652459225464",
        "checksum": 0,
    }
    snapshot, update = (
        read(push("books", LINEAR, {**book, "seqId": 20, "prevSeqId": previous}, action=action))[0]
        for action, previous in (("snapshot", -1), ("update", 10))
    )
    asks, bids = [Level("30249.4", "0"), Level("30261", "4.50")], [Level("30182.6", "452")]
    assert update == BookUpdate(LINEAR, False, 20, 20, 10, bids, asks, 1652459225464, 7)
    assert snapshot == BookUpdate(LINEAR, True, 20, 20, None, bids, asks, 1652459225464, 7)
    assert isinstance(update, BookUpdate)


@pytest.mark.parametrize("sequence", [{}, {"seqId": 1}, {"seqId": None, "prevSeqId": 1}, {"seqId": 1, "prevSeqId": -2}])
def test_a_book_without_its_sequence_is_unreadable(sequence: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        read(push("books", LINEAR, {"asks": [], "bids": [], "ts": "1", **sequence}, action="update"))


@pytest.mark.parametrize(
    ("instrument", "volume", "bid", "ask"),
    [
        (SPOT, "779573", "4", "12"),
        (LINEAR, "2620.289", "0.04", "0.12"),
        (INVERSE, "2620.289", "0.0064", "0.01919996928"),
    ],
)
def test_a_ticker_counts_coins(instrument: Instrument, volume: str, bid: str, ask: str) -> None:
    (ticker,) = read(push("tickers", instrument, TICKER))
    assert ticker == Ticker(
        instrument, 1798000000000, 7, "62500", "62500", bid, "62500.1", ask, "63000.5", "60000", volume
    )


def test_a_ticker_of_an_empty_market_has_holes() -> None:
    empty = {**TICKER, "last": "", "askPx": "", "askSz": "", "bidPx": "", "high24h": ""}
    (ticker,) = read(push("tickers", LINEAR, empty))
    assert isinstance(ticker, Ticker)
    assert (ticker.last_price, ticker.best_ask_price, ticker.best_ask_quantity, ticker.best_bid_quantity) == (None,) * 4


def test_a_funding_rate_is_a_forecast_and_may_be_negative() -> None:
    row = {"fundingRate": "-0.000123", "fundingTime": "1798003600000", "nextFundingTime": "1", "ts": "1798000000000"}
    expected = FundingRate(LINEAR, "-0.000123", 1798003600000, 1798000000000, 7, is_final=False)
    assert read(push("funding-rate", LINEAR, row)) == [expected]


def test_open_interest_is_told_in_coins_and_contracts() -> None:
    row = {"oi": "5000", "oiCcy": "8.12", "oiUsd": "500000", "ts": "1798000000000"}
    assert read(push("open-interest", INVERSE, row)) == [OpenInterest(INVERSE, "8.12", "5000", 1798000000000, 7)]


@pytest.mark.parametrize(("instrument", "volume"), [(SPOT, "12"), (LINEAR, "0.12"), (INVERSE, "0.12")])
@pytest.mark.parametrize(("confirm", "at_ms"), [("0", 7), ("1", 86_400_000 * 3)])
def test_a_candle_counts_coins(instrument: Instrument, volume: str, confirm: str, at_ms: int) -> None:
    row = ["172800000", "1.0", "3", "0.5", "2.00", "12", "0.12", "7.5", confirm]
    expected = KlineRecord(
        instrument, "1d", 172_800_000, "1.0", "3", "0.5", "2.00", volume, confirm == "1", at_ms, 7, quote_volume="7.5"
    )
    assert read(push("candle1Dutc", instrument, row)) == [expected]


def test_a_candle_off_its_grid_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="grid"):
        read(push("candle1Dutc", SPOT, ["57600000", "1", "1", "1", "1", "1", "1", "1", "1"]))


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (b"pong", Alive()),
        (
            b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}',
            Accepted(None, ("books:BTC-USDT",)),
        ),
        (b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}', Alive()),
        (
            b'{"event":"error","code":"60012","msg":"Invalid request: {}","connId":"a"}',
            Refused(None, 60012, "Invalid request: {}"),
        ),
        (
            b'{"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:X-Y doesn\'t exist."}',
            Refused(None, 60018, "Wrong URL or channel:books,instId:X-Y doesn't exist.", "books:X-Y"),
        ),
        (
            b'{"event":"error","arg":{"channel":"books","instId":"X-Y"},"code":"","msg":"no"}',
            Refused(None, 0, "no", "books:X-Y"),
        ),
        (b'{"event":"notice","code":"64008","msg":"soon"}', Closing("soon")),
        (b'{"event":"notice","code":"64999","msg":"?"}', Alive()),
        (b'{"event":"channel-conn-count","channel":"books","connCount":"2","connId":"a"}', Alive()),
        (b'{"arg":{"channel":"books5","instId":"BTC-USDT"},"data":[{}]}', Alive()),
        (b'{"arg":{"channel":"instruments","instType":"SPOT"},"data":[{}]}', Alive()),
        (b"{}", Alive()),
    ],
)
def test_what_is_no_market_data_is_understood(frame: bytes, event: Event) -> None:
    assert read(frame) == [event]


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"[]", b"ping", b"\xff", b"null", b'{"arg":', b"[" * 100_000),
        push("trades-all", SPOT, trade(1), trade(2, price="NaN")),
        push("trades-all", INVERSE, trade(1, amount="1e5")),
        push("trades-all", INVERSE, trade(1, price="0")),
        push("trades-all", LINEAR, trade(1, amount="-3")),
        push("trades-all", SPOT, {**trade(1), "tradeId": "x"}),
        push("trades-all", SPOT, {**trade(1), "tradeId": "-1"}),
        push("trades-all", SPOT, {**trade(1), "side": "both"}),
        push("trades-all", SPOT, {**trade(1), "ts": str(1 << 60)}),
        push("trades-all", Instrument("okx", SPOT.market, "A-B", "A-B"), trade(1)),
        push("books", SPOT, {"asks": [["1", ""]], "bids": [], "ts": "1", "seqId": 1, "prevSeqId": 0}, action="update"),
        push("books", SPOT, {"asks": [["1"]], "bids": [], "ts": "1", "seqId": 1, "prevSeqId": 0}, action="update"),
        push("books", SPOT, {"asks": [], "bids": [], "ts": "1", "seqId": 1, "prevSeqId": 0}, action="partial"),
        push("tickers", SPOT, {**TICKER, "last": "1.2.3"}),
        push("candle1m", SPOT, ["60000", "1", "1", "1", "1", "1", "1", "1", "2"]),
    ],
)
def test_one_bad_element_makes_a_frame_unreadable(frame: bytes) -> None:
    with pytest.raises(Unreadable):
        read(frame)


@given(st.binary(max_size=60))
def test_any_bytes_give_events_or_are_unreadable(noise: bytes) -> None:
    okx = venue()
    frames = [push("trades-all", LINEAR, trade(9)), push("tickers", SPOT, TICKER)]
    for frame in (noise, frames[0][: len(noise) * 3] + noise, noise + frames[1], frames[0].replace(b"62500.1", noise)):
        try:
            okx.read(ROUTE, frame, 1)
        except Unreadable:
            continue


@given(st.data())
def test_a_damaged_frame_is_never_another_exception(data: st.DataObject) -> None:
    book = {"asks": [["1.5", "2", "0", "1"]], "bids": [], "ts": "1", "seqId": 1, "prevSeqId": 0}
    whole = data.draw(
        st.sampled_from(
            [push("trades-all", i, trade(9)) for i in ALL]
            + [push("books", LINEAR, book, action="update"), push("tickers", INVERSE, TICKER)]
        )
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    try:
        venue().read(ROUTE, whole[:at] + data.draw(st.binary(min_size=1, max_size=1)) + whole[at + 1 :], 1)
    except Unreadable:
        return
