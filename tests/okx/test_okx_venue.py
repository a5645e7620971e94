"""OKX's names, requests, answers and limits."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.instrument import Instrument, Market, Unit
from app.domain.market_events import BookUpdate, Trades
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, Ticker, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel, Request
from app.okx.venue import OkxVenue
from app.ports.venue import Venue
from tests.okx.frames import FUTURE, INVERSE, LINEAR, SPOT, answer, trade, venue

NOW_MS = 1_798_000_000_000
MINUTE = Feed(LINEAR, DataType.KLINE, "1m")


def row(native: str, kind: str, state: str = "live", **more: str) -> dict[str, str]:
    return {"instType": kind, "instId": native, "state": state, "baseCcy": "", "quoteCcy": "", **more}


def contract(native: str, kind: str, base: str, settle: str, ctype: str, expires: str = "") -> dict[str, str]:
    worth = {"ctVal": "100" if ctype == "inverse" else "0.01", "ctMult": "1", "ctValCcy": base, "ctType": ctype}
    return row(native, kind, settleCcy=settle, expTime=expires, uly="", **worth)


NAMES = [
    (row("BTC-USDT", "SPOT", baseCcy="BTC", quoteCcy="USDT"), SPOT),
    (contract("BTC-USDT-SWAP", "SWAP", "BTC", "USDT", "linear"), LINEAR),
    (contract("BTC-USD-SWAP", "SWAP", "USD", "BTC", "inverse"), INVERSE),
    (contract("BTC-USD-261225", "FUTURES", "USD", "BTC", "inverse", "1798185600000"), FUTURE),
    (
        {**contract("PEPE-USDT-SWAP", "SWAP", "PEPE", "USDT", "linear"), "ctMult": "1000", "ctVal": "0.1"},
        Instrument("okx", Market.SWAP, "PEPE-USDT", "PEPE-USDT-SWAP", Unit.CONTRACT, "100"),
    ),
    (row("BTC-USDT", "SPOT", "suspend", baseCcy="BTC", quoteCcy="USDT"), None),
    (row("BTC-USDT", "SPOT", baseCcy="BTC", quoteCcy="EUR"), None),
    (contract("BTC-USD_UM-SWAP", "SWAP", "BTC", "USDC", "linear"), None),
    (contract("BTC-USD-261226", "FUTURES", "USD", "BTC", "inverse", "1798185600000"), None),
    (contract("BTC-USD-261225", "FUTURES", "USD", "BTC", "inverse"), None),
    (contract("BTC-USD-261225-60000-C", "OPTION", "BTC", "BTC", "", "1798185600000"), None),
    (row("A.B-USDT", "SPOT", baseCcy="A.B", quoteCcy="USDT"), None),
]


@pytest.mark.parametrize(("listed", "instrument"), NAMES)
def test_names_follow_from_the_listed_currencies(listed: dict[str, str], instrument: Instrument | None) -> None:
    assert venue().read_instruments(answer(listed)) == ([] if instrument is None else [instrument])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[]", answer(code="50011"), answer({"instId": "X"}), b'{"code":"0","data":{}}'),
        answer({**contract("BTC-USDT-SWAP", "SWAP", "BTC", "USDT", "linear"), "ctVal": ""}),
        answer({**contract("BTC-USDT-SWAP", "SWAP", "BTC", "USDT", "linear"), "ctVal": "0"}),
    ],
)
def test_a_list_that_is_none_is_refused_whole(body: bytes) -> None:
    with pytest.raises(Unreadable):
        venue().read_instruments(body)


def test_it_is_a_venue() -> None:
    typed: Venue = OkxVenue()
    assert typed.name == "okx"
    assert typed.limits.silence_ms <= 15_000


@pytest.mark.parametrize(
    ("feed", "channel"),
    [
        (Feed(SPOT, DataType.TRADE), Channel("/ws/v5/business", "trades-all:BTC-USDT")),
        (Feed(LINEAR, DataType.ORDERBOOK), Channel("/ws/v5/public", "books:BTC-USDT-SWAP")),
        (Feed(SPOT, DataType.TICKER), Channel("/ws/v5/public", "tickers:BTC-USDT")),
        (Feed(SPOT, DataType.KLINE, "1m"), Channel("/ws/v5/business", "candle1m:BTC-USDT")),
        (Feed(SPOT, DataType.KLINE, "4h"), Channel("/ws/v5/business", "candle4H:BTC-USDT")),
        (Feed(SPOT, DataType.KLINE, "1d"), Channel("/ws/v5/business", "candle1Dutc:BTC-USDT")),
        (Feed(LINEAR, DataType.FUNDING_RATE), Channel("/ws/v5/public", "funding-rate:BTC-USDT-SWAP")),
        (Feed(FUTURE, DataType.OPEN_INTEREST), Channel("/ws/v5/public", "open-interest:BTC-USD-261225")),
    ],
)
def test_each_feed_has_a_channel_that_can_be_subscribed(feed: Feed, channel: Channel) -> None:
    assert venue().channels(feed) == (channel,)
    name, _, native = channel.name.partition(":")
    args = [{"channel": name, "instId": native}]
    assert json.loads(venue().subscribe(3, [channel.name])) == {"op": "subscribe", "args": args}
    assert json.loads(venue().unsubscribe(3, [channel.name])) == {"op": "unsubscribe", "args": args}


@pytest.mark.parametrize(
    "feed",
    [
        *(Feed(SPOT, DataType.FUNDING_RATE), Feed(FUTURE, DataType.FUNDING_RATE), Feed(SPOT, DataType.OPEN_INTEREST)),
        *(Feed(SPOT, DataType.KLINE, interval) for interval in ("8h", "1M", "1H", "")),
    ],
)
def test_a_feed_that_is_not_offered_is_a_lookup_error(feed: Feed) -> None:
    with pytest.raises(LookupError, match="OKX has no"):
        venue().channels(feed)


def test_the_full_subscription_message_is_within_okxs_64_kb() -> None:
    limits = venue().limits
    name = "funding-rate:" + "X" * 64
    assert len(venue().subscribe(1, [name] * limits.channels_per_message_max)) < 64_000


def test_what_is_sent_without_being_asked() -> None:
    assert venue().greeting(1) is None
    assert venue().keepalive(1) == "ping"


def test_missing_trades_are_asked_for_downwards_from_the_end() -> None:
    params = (("instId", "BTC-USDT"), ("type", "1"), ("after", "500"), ("limit", "100"))
    assert venue().trades_request(SPOT, 300, 500) == Request("/api/v5/market/history-trades", params, 2)


def test_klines_are_asked_for_a_page_at_a_time_with_exclusive_bounds() -> None:
    for end_ms, asked_ms in ((120_000, 120_000), (10**12, 60_000 + 300 * 60_000)):
        request = venue().klines_request(MINUTE, 60_000, end_ms)
        assert request.path == "/api/v5/market/history-candles"
        assert dict(request.params) == {
            "instId": "BTC-USDT-SWAP",
            "bar": "1m",
            "before": "59999",
            "after": str(asked_ms),
            "limit": "300",
        }


def test_paid_rates_are_asked_for_with_exclusive_bounds_and_nothing_is_polled() -> None:
    request = venue().funding_request(LINEAR, 1_000, 2_000)
    assert dict(request.params) == {"instId": "BTC-USDT-SWAP", "before": "999", "after": "2000", "limit": "400"}
    assert venue().poll(Feed(LINEAR, DataType.FUNDING_RATE)) is None


def test_a_book_begins_by_subscription() -> None:
    assert venue().snapshot_request(SPOT) is None
    with pytest.raises(Unreadable, match="subscribe"):
        venue().read_snapshot(SPOT, b"{}", 1)


def test_an_answer_of_trades_is_ascending() -> None:
    read = venue().read_answer(Feed(LINEAR, DataType.TRADE), answer(trade(9), trade(8), trade(7)), 3)
    assert all(isinstance(one, Trade) and one.quantity == "0.03" for one in read)
    assert [one.sequence for one in read if isinstance(one, Trade)] == [7, 8, 9]


def test_an_answer_of_klines_leaves_out_the_one_in_progress() -> None:
    rows = [
        [str(at), "1", "2", "1", "2", "100", "1.00", "62500", confirm]
        for at, confirm in ((120_000, "0"), (60_000, "1"))
    ]
    read = venue().read_answer(MINUTE, answer(*rows), 3)
    assert read == [
        KlineRecord(LINEAR, "1m", 60_000, "1", "2", "1", "2", "1.00", True, 120_000, 3, quote_volume="62500")
    ]


def test_an_answer_of_rates_has_those_that_were_paid() -> None:
    rows = [
        {"fundingRate": "0.2", "realizedRate": rate, "fundingTime": time}
        for rate, time in (("", "9"), ("-0.1", "5"), ("0.3", "1"))
    ]
    read = venue().read_answer(Feed(LINEAR, DataType.FUNDING_RATE), answer(*rows), 3)
    assert read == [
        FundingRate(LINEAR, "0.3", 1, 1, 3, is_final=True),
        FundingRate(LINEAR, "-0.1", 5, 5, 3, is_final=True),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"{}", answer(code="51001"), answer({"tradeId": "1"}), answer(trade(1, price=""))]
)
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        venue().read_answer(Feed(SPOT, DataType.TRADE), body, 1)


def test_what_is_not_asked_for_is_not_answered() -> None:
    with pytest.raises(LookupError):
        venue().read_answer(Feed(SPOT, DataType.TICKER), answer(), 1)


@pytest.mark.parametrize(
    ("status", "body", "until_ms"),
    [
        (200, answer(trade(1)), None),
        (500, b"<html>", None),
        (400, answer(code="51001"), None),
        (429, b"", NOW_MS + 2_000),
        (429, answer(code="50011"), NOW_MS + 2_000),
        (200, answer(code="50011"), NOW_MS + 2_000),
    ],
)
def test_a_refusal_says_until_when(status: int, body: bytes, until_ms: int | None) -> None:
    assert venue().refusal(status, {}, body, NOW_MS) == until_ms


def recorded(realdata: Path) -> Iterator[dict[str, str]]:
    with gzip.open(realdata / "feeds" / "cryptofeed_OKX.jsonl.gz", "rt") as file:
        yield from map(json.loads, file)


def test_recorded_lists_and_frames_are_read_to_the_digit(realdata: Path) -> None:
    okx = OkxVenue()
    listed: dict[str, Instrument] = {}
    seen = {"trades": 0, "books": 0, "tickers": 0, "levels": 0}
    for line in recorded(realdata):
        if line["t"] == "http" and "OPTION" not in line["url"]:
            listed |= {one.native: one for one in okx.read_instruments(line["data"].encode())}
            okx.learn(listed.values())
        if line["t"] != "recv" or "event" in (frame := json.loads(line["data"])):
            continue
        channel, native = frame["arg"]["channel"], frame["arg"]["instId"]
        (row,) = frame["data"]
        seen[channel] += 1
        if channel == "books":  # recorded before books had sequence numbers
            row |= {"seqId": 2, "prevSeqId": 1}
        frame["arg"]["channel"] = "trades-all" if channel == "trades" else channel
        (event,) = okx.read("", json.dumps(frame).encode(), 1)
        match event:
            case Trades(instrument, [one]):
                assert (one.price, one.amount, one.trade_id) == (row["px"], row["sz"], row["tradeId"])
                assert instrument == listed[native]
            case BookUpdate():
                levels = [list(level) for level in (*event.bids, *event.asks)]
                assert levels == [level[:2] for level in row["bids"] + row["asks"]]
                seen["levels"] += len(levels)
            case Ticker():
                assert (event.last_price, event.best_bid_price) == (row["last"], row["bidPx"])
            case _:
                pytest.fail(f"{frame} became {event}")
    assert seen == {"trades": 74, "books": 290, "tickers": 28, "levels": seen["levels"]}
    assert seen["levels"] > 2_000
    futures = {"BTC-USD-220527", "BTC-USDT-220930"}
    assert listed.keys() >= {"BTC-USDT", "BTC-USD-SWAP", "UNI-USDT-SWAP"} | futures
