"""Binance's streams become events with the exchange's digits, and garbage is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.instrument import Instrument
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Trades
from app.domain.records import FundingRate, KlineRecord, Level, Ticker, Trade
from app.domain.unreadable import Unreadable
from tests.binance.collector import ALL, AT_MS, SWAP, event, frame, trade, venue

DEPTH = event(
    "depthUpdate",
    T=AT_MS - 1,
    U=11,
    u=20,
    pu=10,
    b=[["62500.1", "0.120"], ["62499", "0"]],
    a=[["62501", "3"]],
)
KLINE = {
    "t": 120_000,
    "T": 179_999,
    "s": "BTCUSDT",
    "i": "1m",
    "o": "1.0",
    "c": "2.00",
    "h": "3",
    "l": "1",
    "v": "12.50",
    "n": 7,
    "x": True,
    "q": "25.0",
    "V": "1",
    "Q": "2",
}


def read(data: bytes) -> list[Event]:
    return list(venue().read("/market/stream", data, 7))


@pytest.mark.parametrize("instrument", ALL)
def test_an_aggregate_trade_is_counted_by_its_number(instrument: Instrument) -> None:
    native = instrument.native
    one = Trade(instrument, 9, "9", "62500.10", "0.120", "0.120", AT_MS + 9, 7, is_buyer_maker=True)
    row = event("aggTrade", native, **trade(9), st=1)
    assert read(frame(f"{native}@aggTrade", **row)) == [Trades(instrument, [one])]


def test_a_book_update_covers_numbers_and_follows_the_update_before_it() -> None:
    bids, asks = [Level("62500.1", "0.120"), Level("62499", "0")], [Level("62501", "3")]
    (update,) = read(frame("btcusdt@depth@100ms", **DEPTH))
    assert update == BookUpdate(SWAP, False, 11, 20, 10, bids, asks, AT_MS - 1, 7, AT_MS)


def test_a_ticker_has_the_last_price_and_the_day_s_range() -> None:
    day = event("24hrTicker", c="62500.10", h="63000", l="60000.00", v="12345.678", q="1", o="1", Q="3")
    assert read(frame("btcusdt@ticker", **day)) == [
        Ticker(SWAP, AT_MS, 7, "62500.10", high_price="63000", low_price="60000.00", volume="12345.678")
    ]


@pytest.mark.parametrize(
    ("rate", "paid_ms", "told"), [("-0.00010000", AT_MS + 5, True), ("0.00000000", 0, False), ("", 9, False)]
)
def test_a_mark_price_tells_the_funding_rate_where_there_is_one(rate: str, paid_ms: int, told: bool) -> None:
    expected: Event = FundingRate(SWAP, rate, paid_ms, AT_MS, 7, is_final=False) if told else Alive()
    assert read(frame("btcusdt@markPrice", **event("markPriceUpdate", p="1", i="1", P="1", r=rate, T=paid_ms))) == [
        expected
    ]


@pytest.mark.parametrize("is_final", [True, False])
def test_a_kline_keeps_its_digits(is_final: bool) -> None:
    (kline,) = read(frame("btcusdt@kline_1m", **event("kline", k={**KLINE, "x": is_final})))
    assert kline == KlineRecord(
        *(SWAP, "1m", 120_000, "1.0", "3", "1", "2.00", "12.50", is_final, AT_MS, 7), quote_volume="25.0", trades=7
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"result":null,"id":6}', Accepted(3, ())),
        (b'{"result":null,"id":7}', Alive()),
        (b'{"result":true,"id":7}', Alive()),
        (b'{"result":["btcusdt@ticker"],"id":7}', Alive()),
        (b'{"error":{"code":2,"msg":"Invalid request"},"id":6}', Refused(3, 2, "Invalid request")),
        (b'{"error":{"code":4,"msg":"Too many subscriptions"}}', Refused(None, 4, "Too many subscriptions")),
        (b'{"code":3,"msg":"Invalid JSON"}', Refused(None, 3, "Invalid JSON")),
        (b'{"event":{"e":"serverShutdown","E":1}}', Closing("the exchange shuts its server down")),
        (b'{"e":"serverShutdown","E":1}', Closing("the exchange shuts its server down")),
        (frame("!any", e="serverShutdown", E=1), Closing("the exchange shuts its server down")),
        (frame("btcusdt@bookTicker", **event("bookTicker", b="1")), Alive()),
        (b"{}", Alive()),
    ],
)
def test_what_is_no_market_data_is_understood(data: bytes, expected: Event) -> None:
    assert read(data) == [expected]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"[]", b"\xff", b"null", b'{"stream":', b"[" * 100_000, b'{"stream":"btcusdt@aggTrade"}'),
        frame("btcusdt@aggTrade", **event("aggTrade", "BTCUSDT", **trade(9, p="NaN"))),
        frame("btcusdt@aggTrade", **event("aggTrade", "BTCUSDT", **trade(9, q="-1"))),
        frame("btcusdt@aggTrade", **event("aggTrade", "BTCUSDT", **trade(-9))),
        frame("btcusdt@aggTrade", **event("aggTrade", "ETHUSDT", **trade(9))),
        frame("btcusdt@depth@100ms", **{**DEPTH, "b": [["1", "2"], ["1", ""]]}),
        frame("btcusdt@depth@100ms", **{**DEPTH, "b": [["1", "2", "3"]]}),
        frame("btcusdt@depth@100ms", **{**DEPTH, "s": "ETHUSDT"}),
        frame("btcusdt@kline_1m", **event("kline", k={**KLINE, "o": "1e5"})),
        frame("btcusdt@kline_1m", **event("kline", k={**KLINE, "t": 1})),
        frame("btcusdt@ticker", **event("24hrTicker", c="1", h="1", l="1", v="x")),
    ],
)
def test_one_bad_element_makes_a_frame_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read(data)


@given(st.data())
def test_any_bytes_give_events_or_are_unreadable(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [
                frame("btcusdt@aggTrade", **event("aggTrade", "BTCUSDT", **trade(9))),
                frame("btcusdt@depth@100ms", **DEPTH),
                frame("btcusdt@kline_1m", **event("kline", k=KLINE)),
                b"",
            ]
        )
    )
    at, noise = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=20))
    for damaged in (whole[:at] + noise, whole[:at] + noise + whole[at + len(noise) :], noise + whole[at:]):
        try:
            read(damaged)
        except Unreadable:
            continue
