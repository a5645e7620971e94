"""Deribit's names, requests, answers and limits."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.deribit.venue import DeribitVenue
from app.domain.exact import canonical
from app.domain.instrument import Instrument, Market, Unit
from app.domain.market_events import BookUpdate
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, Ticker, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel
from app.ports.venue import Venue
from tests.deribit.frames import FUTURE, INVERSE, LINEAR, SPOT, answer, trade, venue

NOW_MS = 1_798_000_000_000
MINUTE = Feed(INVERSE, DataType.KLINE, "1m")


def row(native: str, base: str, quote: str, kind: str = "future", **more: object) -> dict[str, object]:
    return {
        "instrument_name": native,
        "kind": kind,
        "base_currency": base,
        "quote_currency": quote,
        "is_active": True,
        **more,
    }


NAMES = [
    (row("BTC-PERPETUAL", "BTC", "USD", settlement_period="perpetual", instrument_type="reversed"), INVERSE),
    (
        row(
            "BTC-25DEC26",
            "BTC",
            "USD",
            settlement_period="month",
            instrument_type="reversed",
            expiration_timestamp=1798185600000,
        ),
        FUTURE,
    ),
    (row("BTC_USDC-PERPETUAL", "BTC", "USDC", settlement_period="perpetual", instrument_type="linear"), LINEAR),
    (row("BTC_USDC-PERPETUAL", "BTC", "USDC", settlement_period="perpetual", future_type="linear"), LINEAR),
    (row("BTC_USDC", "BTC", "USDC", "spot"), SPOT),
    (row("BTC-25DEC26-60000-C", "BTC", "USD", "option", instrument_type="reversed"), None),
    (row("BTC-FS-25DEC26_PERP", "BTC", "USD", "future_combo", instrument_type="reversed"), None),
    (row("BTC-PERPETUAL", "BTC", "USD", settlement_period="perpetual"), None),
    (row("BTC-PERPETUAL", "BTC", "EUR", settlement_period="perpetual", instrument_type="reversed"), None),
    ({**row("BTC_USDC", "BTC", "USDC", "spot"), "is_active": False}, None),
    (row("A.B_USDC", "A.B", "USDC", "spot"), None),
]


@pytest.mark.parametrize(("listed", "instrument"), NAMES)
def test_names_follow_from_the_listed_currencies(listed: dict[str, object], instrument: Instrument | None) -> None:
    found = venue().read_instruments(answer(json.dumps([listed])))
    assert found == ([] if instrument is None else [instrument])


def test_of_two_instruments_with_one_name_none_is_taken() -> None:
    pairs = [row(native, "BTC", "USDC", "spot") for native in ("BTC_USDC", "BTC_USDC2")] + [
        row("ETH_USDC", "ETH", "USDC", "spot")
    ]
    assert [one.native for one in venue().read_instruments(answer(json.dumps(pairs)))] == ["ETH_USDC"]


def test_what_the_amounts_count_is_told() -> None:
    assert (INVERSE.unit, INVERSE.contract_size, INVERSE.is_inverse) == (Unit.USD, "1", True)
    assert (LINEAR.unit, LINEAR.contract_size, LINEAR.is_inverse) == (Unit.COIN, "1", False)
    assert INVERSE.quantity("10", "62500.0") == "0.00016"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"error":{"code":10028,"message":"too_many_requests"}}',
        answer("{}"),
        answer('[{"kind":1}]'),
    ],
)
def test_a_list_that_is_none_is_refused_whole(body: bytes) -> None:
    with pytest.raises(Unreadable):
        venue().read_instruments(body)


def test_it_is_a_venue() -> None:
    typed: Venue = DeribitVenue()
    assert typed.name == "deribit"
    assert typed.limits.silence_ms <= 15_000


@pytest.mark.parametrize(
    ("feed", "name"),
    [
        (Feed(INVERSE, DataType.TRADE), "trades.BTC-PERPETUAL.100ms"),
        (Feed(INVERSE, DataType.ORDERBOOK), "book.BTC-PERPETUAL.100ms"),
        (Feed(SPOT, DataType.TICKER), "ticker.BTC_USDC.100ms"),
        (Feed(LINEAR, DataType.FUNDING_RATE), "ticker.BTC_USDC-PERPETUAL.100ms"),
        (Feed(FUTURE, DataType.OPEN_INTEREST), "ticker.BTC-25DEC26.100ms"),
        (Feed(INVERSE, DataType.KLINE, "1h"), "chart.trades.BTC-PERPETUAL.60"),
        (Feed(INVERSE, DataType.KLINE, "1d"), "chart.trades.BTC-PERPETUAL.1D"),
    ],
)
def test_each_feed_has_a_channel(feed: Feed, name: str) -> None:
    assert venue().channels(feed) == (Channel("/ws/api/v2", name),)


@pytest.mark.parametrize(
    "feed",
    [
        *(Feed(SPOT, DataType.FUNDING_RATE), Feed(FUTURE, DataType.FUNDING_RATE), Feed(SPOT, DataType.OPEN_INTEREST)),
        *(Feed(INVERSE, DataType.KLINE, interval) for interval in ("4h", "1w", "1M", "")),
    ],
)
def test_a_feed_that_is_not_offered_is_a_lookup_error(feed: Feed) -> None:
    with pytest.raises(LookupError, match="Deribit has no"):
        venue().channels(feed)


def test_messages_are_calls_whose_ids_tell_subscriptions_from_the_rest() -> None:
    deribit = venue()
    subscribe = json.loads(deribit.subscribe(3, ["a", "b"]))
    assert subscribe == {"jsonrpc": "2.0", "id": 6, "method": "public/subscribe", "params": {"channels": ["a", "b"]}}
    assert json.loads(deribit.unsubscribe(3, ["a"]))["id"] == 7
    greeting = json.loads(deribit.greeting(3) or "")
    assert (greeting["method"], greeting["params"]) == ("public/set_heartbeat", {"interval": 10})
    assert json.loads(deribit.keepalive(3) or "")["method"] == "public/test"


def test_missing_trades_are_asked_for_with_a_neighbour_on_each_side() -> None:
    deribit = venue()
    request = deribit.trades_request(INVERSE, 300, 500)
    assert request.path == "/api/v2/public/get_last_trades_by_instrument"
    expected = {
        "instrument_name": "BTC-PERPETUAL",
        "start_seq": "299",
        "end_seq": "500",
        "count": "1000",
        "sorting": "asc",
    }
    assert dict(request.params) == expected
    assert dict(deribit.trades_request(INVERSE, 0, 10**6).params)["end_seq"] == "999"


def test_klines_and_rates_are_asked_for_a_page_at_a_time_with_inclusive_bounds() -> None:
    deribit = venue()
    params = dict(deribit.klines_request(MINUTE, 60_000, 10**12).params)
    assert (params["start_timestamp"], params["end_timestamp"]) == ("60000", str(60_000 * 1001 - 1))
    assert params["resolution"] == "1"
    assert dict(deribit.klines_request(MINUTE, 60_000, 120_000).params)["end_timestamp"] == "119999"
    params = dict(deribit.funding_request(INVERSE, 0, 7_200_000).params)
    assert (params["start_timestamp"], params["end_timestamp"]) == ("0", "7199999")


def test_nothing_is_polled_and_books_begin_by_subscription() -> None:
    deribit = venue()
    assert deribit.poll(Feed(INVERSE, DataType.FUNDING_RATE)) is None
    assert deribit.snapshot_request(INVERSE) is None
    with pytest.raises(Unreadable, match="subscribe"):
        deribit.read_snapshot(INVERSE, b"{}", 1)


def test_an_answer_of_trades_is_ascending() -> None:
    body = answer(f'{{"trades":[{trade(9)},{trade(8)}],"has_more":false}}')
    read = venue().read_answer(Feed(INVERSE, DataType.TRADE), body, 3)
    assert [(one.sequence, one.quantity) for one in read if isinstance(one, Trade)] == [(8, "0.00272"), (9, "0.00272")]


@pytest.mark.parametrize(("sent_ms", "finals"), [(179_999, 1), (180_000, 2)])
def test_a_candle_is_final_once_deribits_clock_is_past_its_end(sent_ms: int, finals: int) -> None:
    columns = {name: [1.5, 2.5] for name in ("open", "high", "low", "close", "volume", "cost")}
    body = answer(json.dumps({"status": "ok", "ticks": [60_000, 120_000], **columns}), sent_ms * 1_000)
    read = venue().read_answer(MINUTE, body, 9**20)
    assert (
        read
        == [
            KlineRecord(INVERSE, "1m", at, text, text, text, text, text, True, at + 60_000, 9**20, quote_volume=text)
            for at, text in ((60_000, "1.5"), (120_000, "2.5"))
        ][:finals]
    )


def test_an_answer_without_candles_is_empty_and_one_with_uneven_columns_is_refused() -> None:
    assert venue().read_answer(MINUTE, answer('{"status":"no_data","ticks":[]}'), 1) == []
    with pytest.raises(Unreadable, match="length"):
        venue().read_answer(MINUTE, answer('{"status":"ok","ticks":[60000]}'), 1)


def test_an_answer_of_rates_is_of_hours_that_were_paid() -> None:
    body = answer(
        '[{"timestamp":7200000,"interest_8h":1,"interest_1h":-2.5e-7,"index_price":1,"prev_index_price":1},'
        '{"timestamp":3600000,"interest_1h":0.0}]'
    )
    read = venue().read_answer(Feed(INVERSE, DataType.FUNDING_RATE), body, 3)
    assert read == [
        FundingRate(INVERSE, "0.0", 3_600_000, 3_600_000, 3, is_final=True),
        FundingRate(INVERSE, "-0.00000025", 7_200_000, 7_200_000, 3, is_final=True),
    ]


def test_what_is_not_asked_for_is_not_answered() -> None:
    with pytest.raises(LookupError):
        venue().read_answer(Feed(SPOT, DataType.TICKER), answer("[]"), 1)


@pytest.mark.parametrize(
    ("status", "body", "until_ms"),
    [
        (200, answer("[]"), None),
        (500, b"<html>", None),
        (400, b'{"error":{"code":-32602,"message":"x"}}', None),
        (429, b"", NOW_MS + 5_000),
        (400, b'{"error":{"code":10028,"message":"too_many_requests"}}', NOW_MS + 5_000),
    ],
)
def test_a_refusal_says_until_when(status: int, body: bytes, until_ms: int | None) -> None:
    assert venue().refusal(status, {}, body, NOW_MS) == until_ms


def recorded(realdata: Path) -> Iterator[dict[str, str]]:
    with gzip.open(realdata / "feeds" / "cryptofeed_DERIBIT.jsonl.gz", "rt") as file:
        yield from map(json.loads, file)


def test_recorded_lists_and_frames_are_read_to_the_digit(realdata: Path) -> None:
    """The recorded frames are of options, which are left out of the lists: they are read as if they were coins."""
    deribit = DeribitVenue()
    listed: list[Instrument] = []
    books = tickers = 0
    for line in recorded(realdata):
        if line["t"] == "http":
            listed += deribit.read_instruments(line["data"].encode())
        if line["t"] != "recv" or "params" not in (frame := json.loads(line["data"], parse_float=str, parse_int=str)):
            continue
        data = frame["params"]["data"]
        native = data["instrument_name"]
        deribit.learn([Instrument("deribit", Market.SPOT, native, native)])
        (event,) = deribit.read("", line["data"].replace(".raw", ".100ms").encode(), 1)
        if isinstance(event, BookUpdate):
            books += 1
            rows = data["bids"] + data["asks"]
            assert [*event.bids, *event.asks] == [
                (canonical(price), "0" if what == "delete" else amount) for what, price, amount in rows
            ]
        elif isinstance(event, Ticker):
            tickers += 1
            assert event.mark_price == data["mark_price"]
    assert (books, tickers) == (46, 89)
    assert {one.symbol for one in listed} >= {"SOL-USD", "BTC-USDC", "SOL-USD-220624"}
    assert all(one.is_inverse == (one.unit is Unit.USD) for one in listed)
