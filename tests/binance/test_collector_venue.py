"""Binance's names, requests, answers and limits for the collector."""

import gzip
import json
from pathlib import Path

import pytest

from app.binance.collector_venue import BinanceVenue
from app.domain.instrument import Instrument, Market
from app.domain.market_events import BookUpdate, Trades
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, Level, OpenInterest, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel, Request
from app.ports.venue import Venue
from tests.binance.collector import AT_MS, CHINESE, FUTURE, SWAP, trade, venue

GOLD = Instrument("binance", Market.SWAP, "XAU-USDT", "XAUUSDT")
MINUTE = Feed(SWAP, DataType.KLINE, "1m")


def listed(symbol: str, base: str, quote: str, kind: str = "PERPETUAL", **more: object) -> dict[str, object]:
    names = {"symbol": symbol, "baseAsset": base, "quoteAsset": quote, "contractType": kind}
    return {**names, "status": "TRADING", "deliveryDate": 4133404800000, **more}


def info(*symbols: object) -> bytes:
    return json.dumps({"symbols": symbols}).encode()


def row(open_ms: int, close: str = "2.0") -> list[object]:
    return [open_ms, "1", "2", "1", close, "12.50", open_ms + 59_999, "25", 7, "1", "2", "0"]


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [
        (listed("BTCUSDT", "BTC", "USDT"), SWAP),
        (listed("BTCUSDT_261225", "BTC", "USDT", "CURRENT_QUARTER", deliveryDate=1798185600000), FUTURE),
        (listed("币安人生USDT", "币安人生", "USDT"), CHINESE),
        (
            listed("XAUUSDT", "XAU", "USDT", "TRADIFI_PERPETUAL"),
            Instrument("binance", Market.SWAP, "XAU-USDT", "XAUUSDT"),
        ),
        (listed("BTCUSDT", "BTC", "USDT", "CURRENT_QUARTER DELIVERING"), None),
        (listed("BTCUSDT", "BTC", "USDT", ""), None),
        (listed("BTCUSDT", "BTC", "USDT", status="SETTLING"), None),
        (listed("A.BUSDT", "A.B", "USDT"), None),
    ],
)
def test_names_follow_from_the_listed_assets(symbol: object, instrument: Instrument | None) -> None:
    assert venue().read_instruments(info(symbol)) == ([] if instrument is None else [instrument])


def test_of_two_symbols_with_one_name_none_is_taken() -> None:
    symbols = [listed("IDOL", "IDOL", "USDT"), listed("IDOLUSDT", "IDOL", "USDT"), listed("BTCUSDT", "BTC", "USDT")]
    assert venue().read_instruments(info(*symbols)) == [SWAP]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", info({}), info(listed("", "BTC", "USDT")), b'{"code":-1003}'])
def test_a_list_that_is_none_is_refused_whole(body: bytes) -> None:
    with pytest.raises(Unreadable):
        venue().read_instruments(body)


def test_it_is_a_venue() -> None:
    typed: Venue = BinanceVenue()
    assert typed.name == "binance"
    assert typed.limits.silence_ms <= 15_000


@pytest.mark.parametrize(
    ("feed", "channel"),
    [
        (Feed(SWAP, DataType.TRADE), Channel("/market/stream", "btcusdt@aggTrade")),
        (Feed(FUTURE, DataType.ORDERBOOK), Channel("/public/stream", "btcusdt_261225@depth@100ms")),
        (Feed(SWAP, DataType.TICKER), Channel("/market/stream", "btcusdt@ticker")),
        (Feed(SWAP, DataType.FUNDING_RATE), Channel("/market/stream", "btcusdt@markPrice")),
        (Feed(CHINESE, DataType.KLINE, "1w"), Channel("/market/stream", "币安人生usdt@kline_1w")),
    ],
)
def test_each_feed_has_a_stream_on_its_route(feed: Feed, channel: Channel) -> None:
    assert venue().channels(feed) == (channel,)


@pytest.mark.parametrize(
    "feed",
    [
        Feed(FUTURE, DataType.FUNDING_RATE),
        Feed(Instrument("binance", Market.SPOT, "BTC-USDT", "BTCUSDT"), DataType.TRADE),
        *(Feed(SWAP, DataType.KLINE, interval) for interval in ("1M", "7m", "")),
    ],
)
def test_a_feed_that_is_not_offered_is_a_lookup_error(feed: Feed) -> None:
    with pytest.raises(LookupError, match="Binance"):
        venue().channels(feed)


def test_only_the_open_interest_is_polled() -> None:
    interest = Feed(SWAP, DataType.OPEN_INTEREST)
    assert venue().channels(interest) == ()
    polled = venue().poll(interest)
    assert polled is not None
    assert polled.request == Request("/fapi/v1/openInterest", (("symbol", "BTCUSDT"),))
    assert venue().poll(Feed(SWAP, DataType.FUNDING_RATE)) is None


def test_messages_are_calls_whose_ids_tell_subscriptions_from_the_rest() -> None:
    binance = venue()
    assert json.loads(binance.subscribe(3, ["a", "b"])) == {"method": "SUBSCRIBE", "params": ["a", "b"], "id": 6}
    assert json.loads(binance.unsubscribe(3, ["a"])) == {"method": "UNSUBSCRIBE", "params": ["a"], "id": 7}
    assert json.loads(binance.keepalive(3) or "") == {"method": "GET_PROPERTY", "params": ["combined"], "id": 7}
    assert binance.greeting(1) is None


def test_missing_trades_are_asked_for_upwards_with_a_neighbour() -> None:
    for end, limit in ((500, "201"), (10**9, "1000")):
        params = (("symbol", "BTCUSDT"), ("fromId", "300"), ("limit", limit))
        assert venue().trades_request(SWAP, 300, end) == Request("/fapi/v1/aggTrades", params, 20)


def test_klines_and_rates_are_asked_for_a_page_at_a_time_with_inclusive_bounds() -> None:
    for end_ms, limit, weight in ((180_000, "2", 1), (60_000 * 500, "499", 2), (10**12, "1500", 10)):
        request = venue().klines_request(MINUTE, 60_000, end_ms)
        assert request.weight == weight
        params = dict(request.params)
        assert (params["startTime"], params["endTime"], params["limit"]) == ("60000", str(end_ms - 1), limit)
    params = dict(venue().funding_request(SWAP, 1_000, 2_000).params)
    assert params == {"symbol": "BTCUSDT", "startTime": "1000", "endTime": "1999", "limit": "1000"}


def test_a_snapshot_is_the_deepest_book() -> None:
    params = (("symbol", "BTCUSDT"), ("limit", "1000"))
    assert venue().snapshot_request(SWAP) == Request("/fapi/v1/depth", params, 20)
    body = b'{"lastUpdateId":20,"E":5,"T":4,"bids":[["62500.1","0.120"]],"asks":[["62501","3"]]}'
    bids, asks = [Level("62500.1", "0.120")], [Level("62501", "3")]
    assert venue().read_snapshot(SWAP, body, 7) == BookUpdate(SWAP, True, 20, 20, None, bids, asks, 4, 7, 5)
    for bad in (b"", b"{}", body.replace(b'"3"', b'"x"'), body.replace(b"20", b"-1")):
        with pytest.raises(Unreadable):
            venue().read_snapshot(SWAP, bad, 7)


def test_an_answer_of_trades_is_ascending() -> None:
    read = venue().read_answer(Feed(SWAP, DataType.TRADE), json.dumps([trade(9), trade(8)]).encode(), 3)
    assert [(one.sequence, one.quantity) for one in read if isinstance(one, Trade)] == [(8, "0.120"), (9, "0.120")]


@pytest.mark.parametrize(("received_ms", "finals"), [(179_999, 1), (184_999, 1), (185_000, 2)])
def test_the_newest_kline_is_final_well_after_its_end(received_ms: int, finals: int) -> None:
    read = venue().read_answer(MINUTE, json.dumps([row(60_000), row(120_000)]).encode(), received_ms)
    assert read == [
        KlineRecord(
            *(SWAP, "1m", at, "1", "2", "1", "2.0", "12.50", True, at + 60_000, received_ms),
            quote_volume="25",
            trades=7,
        )
        for at in (60_000, 120_000)[:finals]
    ]


def test_an_answer_of_rates_is_ascending_and_may_be_negative() -> None:
    rows = [
        {"symbol": "BTCUSDT", "fundingTime": time, "fundingRate": rate, "markPrice": ""}
        for time, rate in ((9, "-0.1"), (1, "0.30"))
    ]
    read = venue().read_answer(Feed(SWAP, DataType.FUNDING_RATE), json.dumps(rows).encode(), 3)
    assert read == [
        FundingRate(SWAP, "0.30", 1, 1, 3, is_final=True),
        FundingRate(SWAP, "-0.1", 9, 9, 3, is_final=True),
    ]


def test_an_answer_of_the_open_interest_is_in_coins() -> None:
    feed = Feed(SWAP, DataType.OPEN_INTEREST)
    body = b'{"openInterest":"10659.509","symbol":"BTCUSDT","time":5}'
    assert venue().read_answer(feed, body, 7) == [OpenInterest(SWAP, "10659.509", "10659.509", 5, 7)]
    with pytest.raises(Unreadable, match="expected an answer for BTCUSDT"):
        venue().read_answer(feed, body.replace(b"BTC", b"ETH"), 7)


@pytest.mark.parametrize("data_type", [DataType.TRADE, DataType.FUNDING_RATE, DataType.OPEN_INTEREST, DataType.KLINE])
@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"code":-1121,"msg":"Invalid symbol."}'])
def test_an_answer_that_is_none_is_refused(data_type: DataType, body: bytes) -> None:
    with pytest.raises(Unreadable):
        venue().read_answer(Feed(SWAP, data_type, "1m"), body, 1)


def test_what_is_not_asked_for_is_not_answered() -> None:
    with pytest.raises(LookupError):
        venue().read_answer(Feed(SWAP, DataType.TICKER), b"[]", 1)


BANNED = (
    b'{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until 1798000900000. Please use the websocket."}'
)


@pytest.mark.parametrize(
    ("status", "headers", "body", "until_ms"),
    [
        (200, {}, b"[]", None),
        (503, {"Retry-After": "9"}, b"", None),
        (429, {}, b"", AT_MS + 20_000),
        (429, {"retry-after": "7"}, b"", AT_MS + 7_000),
        (418, {}, b"<html>", AT_MS + 120_000),
        (418, {"Retry-After": "300"}, b"", AT_MS + 300_000),
        (418, {"Retry-After": "x"}, BANNED, 1_798_000_900_000),
        (418, {"Retry-After": "9" * 30}, b"", AT_MS + 3 * 86_400_000),
    ],
)
def test_a_refusal_says_until_when(status: int, headers: dict[str, str], body: bytes, until_ms: int | None) -> None:
    assert venue().refusal(status, headers, body, AT_MS) == until_ms


def test_recorded_lists_books_and_frames_are_read_to_the_digit(realdata: Path) -> None:
    binance = BinanceVenue()
    native: dict[str, Instrument] = {}
    seen = {"aggTrade": 0, "depthUpdate": 0, "kline": 0, "bookTicker": 0, "snapshot": 0}
    with gzip.open(realdata / "feeds" / "cryptofeed_BINANCE_FUTURES.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    for line in lines:
        if line["t"] == "http" and "exchangeInfo" in line["url"]:
            native |= {one.native: one for one in binance.read_instruments(line["data"].encode())}
            binance.learn(native.values())
        elif line["t"] == "http":
            book = binance.read_snapshot(
                native[line["url"].split("symbol=")[1].split("&")[0]], line["data"].encode(), 1
            )
            asks = json.loads(line["data"])["asks"]
            assert [list(level) for level in book.asks] == asks
            seen["snapshot"] += 1
        elif line["t"] == "recv":
            data = json.loads(line["data"])["data"]
            (event,) = binance.read("", line["data"].encode(), 1)
            seen[data["e"]] += 1
            match event:
                case Trades(instrument, [one]):
                    assert (one.price, one.amount, one.sequence) == (data["p"], data["q"], data["a"])
                    assert instrument == native[data["s"]]
                case BookUpdate():
                    assert [list(level) for level in (*event.bids, *event.asks)] == data["b"] + data["a"]
                    assert (event.first, event.last, event.previous) == (data["U"], data["u"], data["pu"])
                case KlineRecord():
                    assert (event.close, event.is_final) == (data["k"]["c"], data["k"]["x"])
    assert seen == {"aggTrade": 91, "depthUpdate": 764, "kline": 67, "bookTicker": 613, "snapshot": 4}
    assert native["BTCUSDT"] == SWAP
