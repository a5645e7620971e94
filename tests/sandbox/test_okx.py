"""The sandbox's OKX: protocol, trades, candles, fundings and open interest; REST, sockets and truth agree."""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, utc_ms
from tests.sandbox.wire import BUSINESS, PUBLIC, Floor, Wire, rows_of

SWAP = "BTC-USDT-SWAP"
EVERY = ("BTC-USDT", "BTC-USDT-SWAP", "ETH-USDT-SWAP", "BTC-USD-SWAP", "BTC-USDT-261225")


@pytest.fixture
def floor() -> Floor:
    return Floor()


def test_a_text_ping_is_answered_with_pong(floor: Floor) -> None:
    assert Wire(floor, PUBLIC).send("ping") == ["pong"]


def test_a_subscription_is_acknowledged_for_each_argument_with_the_id_of_the_connection(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    answers = wire.subscribe("books", "trades", instId=SWAP)
    assert [answer["arg"] for answer in answers] == [
        {"channel": "books", "instId": SWAP},
        {"channel": "trades", "instId": SWAP},
    ]
    assert {answer["event"] for answer in answers} == {"subscribe"}
    assert len({answer["connId"] for answer in answers}) == 1
    assert Wire(floor, PUBLIC).subscribe("books", instId=SWAP)[0]["connId"] != answers[0]["connId"]


@pytest.mark.parametrize("text", ["{", "[]", '{"op":"login"}', '{"op":"subscribe","args":[]}', '{"op":1,"args":[1]}'])
def test_what_is_no_request_gets_error_60012(floor: Floor, text: str) -> None:
    (answer,) = Wire(floor, PUBLIC).send(text)
    assert (answer["event"], answer["code"]) == ("error", "60012")


@pytest.mark.parametrize(
    ("path", "channel", "name"),
    [
        (PUBLIC, "candle1m", SWAP),
        (PUBLIC, "trades-all", SWAP),
        (BUSINESS, "books", SWAP),
        (PUBLIC, "nothing", SWAP),
        (PUBLIC, "books", "BTC-EUR"),
        (PUBLIC, "funding-rate", "BTC-USDT"),
        (BUSINESS, "candle7m", SWAP),
    ],
)
def test_a_channel_that_the_url_does_not_have_gets_error_60018(
    floor: Floor, path: str, channel: str, name: str
) -> None:
    wire = Wire(floor, path)
    (answer,) = wire.subscribe(channel, instId=name)
    assert (answer["event"], answer["code"]) == ("error", "60018")
    assert wire.run(SECOND_MS) == []


def test_a_connection_has_480_requests_an_hour(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    events = [wire.subscribe("tickers", instId=SWAP)[0]["event"] for _ in range(481)]
    assert events == ["subscribe"] * 480 + ["error"]


def test_a_connection_without_any_frame_for_30_seconds_is_closed(floor: Floor) -> None:
    silent, polite = Wire(floor, PUBLIC), Wire(floor, PUBLIC)
    for _ in range(3):
        floor.clock.advance(10 * SECOND_MS)
        polite.send("ping")
        silent.run()
        polite.run()
    assert (silent.peer.is_closed, silent.peer.close_code) == (True, 4004)
    assert not polite.peer.is_closed


def test_an_unsubscribed_channel_is_silent(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("trades", instId=SWAP)
    assert wire.run(SECOND_MS)
    (answer,) = wire.send({"op": "unsubscribe", "args": [{"channel": "trades", "instId": SWAP}]})
    assert answer["event"] == "unsubscribe"
    assert wire.run(SECOND_MS) == []


def test_instruments_state_their_units(floor: Floor) -> None:
    rows = {row["instId"]: row for kind in ("SPOT", "SWAP", "FUTURES") for row in _instruments(floor, kind)}
    assert set(EVERY) < set(rows)
    names = ("ctVal", "ctMult", "ctValCcy", "ctType", "tickSz", "lotSz", "settleCcy", "state")
    assert [rows[SWAP][name] for name in names] == ["0.01", "1", "BTC", "linear", "0.1", "0.01", "USDT", "live"]
    inverse = [rows["BTC-USD-SWAP"][name] for name in names]
    assert inverse == ["100", "1", "USD", "inverse", "0.1", "1", "BTC", "live"]
    assert [rows["BTC-USDT"][name] for name in ("ctVal", "baseCcy", "quoteCcy")] == ["", "BTC", "USDT"]
    assert rows["BTC-USDT-261225"]["expTime"] == str(utc_ms(2026, 12, 25, 8))


@pytest.mark.parametrize("name", EVERY)
def test_every_trade_comes_once_over_the_end_of_an_hour_and_is_the_true_one(name: str) -> None:
    floor = Floor(now_ms=utc_ms(2026, 11, 21, 4, 59) + 50 * SECOND_MS)
    wire = Wire(floor, BUSINESS)
    wire.subscribe("trades-all", instId=name)
    first = floor.truth.newest_trade("okx", name, floor.now_ms) + 1
    rows = rows_of(wire.run(20 * SECOND_MS), "trades-all")
    told = [_told(row) for row in rows]
    assert told == _true(floor, name, first)
    assert len(told) > 20


def test_the_channel_trades_joins_trades_of_one_price_and_side(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("trades", instId=SWAP)
    last = floor.truth.newest_trade("okx", SWAP, floor.now_ms)
    rows = rows_of(wire.run(30 * SECOND_MS), "trades")
    true = _true(floor, SWAP, last + 1)
    for row in rows:
        count = int(row["count"])
        part, true = true[:count], true[count:]
        assert int(row["tradeId"]) == last + count == part[-1][0]
        assert {(price, side) for _, price, _, side, _ in part} == {(row["px"], row["side"])}
        assert Decimal(row["sz"]) == sum(Decimal(size) for _, _, size, _, _ in part)
        last += count
    assert true == []
    assert max(int(row["count"]) for row in rows) > 1


@pytest.mark.parametrize("name", EVERY)
def test_rest_gives_the_true_trades_newest_first(floor: Floor, name: str) -> None:
    newest = floor.truth.newest_trade("okx", name, floor.now_ms)
    recent = [_told(row) for row in floor.okx("market/trades", instId=name, limit=500)]
    assert recent[::-1] == _true(floor, name, newest - 499)


def test_any_span_of_trades_can_be_paged_through_by_id(floor: Floor) -> None:
    newest = floor.truth.newest_trade("okx", SWAP, floor.now_ms)
    first, after, found = newest - 5_250, newest - 5_000, list[Any]()
    while rows := floor.okx("market/history-trades", instId=SWAP, type=1, after=after, before=first - 1, limit=100):
        found += [_told(row) for row in rows]
        after = int(rows[-1]["tradeId"])
    assert found[::-1] == floor_true(floor, SWAP, first, newest - 5_001)


def test_trades_can_be_asked_for_by_time(floor: Floor) -> None:
    before_ms = floor.now_ms - HOUR_MS
    rows = floor.okx("market/history-trades", instId=SWAP, type=2, after=before_ms, limit=5)
    assert all(int(row["ts"]) < before_ms for row in rows)
    after = floor.okx("market/history-trades", instId=SWAP, after=int(rows[0]["tradeId"]) + 2, limit=1)
    assert int(after[0]["ts"]) >= before_ms


def test_a_candle_is_the_sum_of_its_trades_and_closes_once(floor: Floor) -> None:
    floor.clock.advance(MINUTE_MS - floor.now_ms % MINUTE_MS)
    open_ms = floor.now_ms
    wire = Wire(floor, BUSINESS)
    wire.subscribe("candle1m", "trades-all", instId=SWAP)
    frames = wire.run(MINUTE_MS + SECOND_MS)
    rows = [row for row in rows_of(frames, "candle1m") if row[0] == str(open_ms)]
    assert [row[-1] for row in rows] == ["0"] * (len(rows) - 1) + ["1"]
    trades = [row for row in rows_of(frames, "trades-all") if open_ms <= int(row["ts"]) < open_ms + MINUTE_MS]
    prices = [Decimal(row["px"]) for row in trades]
    contracts = sum(Decimal(row["sz"]) for row in trades)
    assert [Decimal(text) for text in rows[-1][1:7]] == [
        *(prices[0], max(prices), min(prices), prices[-1]),
        *(contracts, contracts / 100),
    ]
    assert floor.okx("market/candles", instId=SWAP, after=open_ms + 1, limit=1) == [rows[-1]]


@pytest.mark.parametrize(("bar", "hour"), [("1D", 16), ("1Dutc", 0), ("12Hutc", 0), ("1Wutc", 0)])
def test_long_candles_begin_at_utc_plus_8_unless_their_name_ends_with_utc(floor: Floor, bar: str, hour: int) -> None:
    rows = floor.okx("market/history-candles", instId=SWAP, bar=bar, limit=3)
    assert [row[-1] for row in rows] == ["0", "1", "1"]
    assert all(int(row[0]) % DAY_MS // HOUR_MS in {hour, 12 if bar == "12Hutc" else hour} for row in rows)
    assert all(int(newer[0]) > int(older[0]) for newer, older in pairwise(rows))


def test_candles_are_newest_first_between_after_and_before(floor: Floor) -> None:
    open_ms = floor.now_ms // MINUTE_MS * MINUTE_MS
    rows = floor.okx("market/candles", instId=SWAP, after=open_ms, before=open_ms - 4 * MINUTE_MS)
    assert [int(row[0]) for row in rows] == [open_ms - part * MINUTE_MS for part in (1, 2, 3)]
    oldest = floor.okx("market/candles", instId=SWAP, after=open_ms - 1_438 * MINUTE_MS)
    assert [int(row[0]) for row in oldest] == [open_ms - 1_439 * MINUTE_MS]


@pytest.mark.parametrize("name", ["BTC-USDT-SWAP", "BTC-USD-SWAP", "ETH-USDT-SWAP"])
def test_fundings_are_complete_and_the_one_to_come_is_the_one_that_comes(name: str) -> None:
    floor = Floor(now_ms=utc_ms(2026, 11, 21, 7, 59) + 58 * SECOND_MS)
    wire = Wire(floor, PUBLIC)
    wire.subscribe("funding-rate", instId=name)
    (told,) = rows_of(wire.run(SECOND_MS), "funding-rate")
    floor.clock.advance(MINUTE_MS)
    history = floor.okx("public/funding-rate-history", instId=name, limit=5)
    assert (history[0]["fundingRate"], history[0]["fundingTime"]) == (told["fundingRate"], told["fundingTime"])
    span = int(history[-1]["fundingTime"]), int(history[0]["fundingTime"]) + 1
    true = floor.truth.fundings("okx", name, *span, floor.now_ms)
    assert [(int(row["fundingTime"]), row["fundingRate"]) for row in history[::-1]] == [
        (each["time_ms"], each["rate"]) for each in true
    ]
    assert floor.okx("public/funding-rate", instId=name)[0]["fundingTime"] == told["nextFundingTime"]


def test_open_interest_comes_every_three_seconds_and_is_the_true_one(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("open-interest", instId=SWAP)
    rows = rows_of(wire.run(10 * SECOND_MS), "open-interest")
    assert [int(row["ts"]) // 3_000 for row in rows] == list(
        range(int(rows[0]["ts"]) // 3_000, floor.now_ms // 3_000 + 1)
    )
    true = floor.truth.open_interest("okx", SWAP, floor.now_ms)["size"]
    assert {row["oi"] for row in rows} == {true}
    assert Decimal(rows[0]["oiCcy"]) == Decimal(rows[0]["oi"]) / 100
    assert floor.okx("public/open-interest", instType="SWAP", instId=SWAP)[0]["oi"] == true


def test_a_ticker_has_the_last_trade_and_the_best_levels(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("tickers", "bbo-tbt", "trades", instId=SWAP)
    frames = wire.run(5 * SECOND_MS)
    ticker, best = rows_of(frames, "tickers")[-1], rows_of(frames, "bbo-tbt")[-1]
    assert (ticker["bidPx"], ticker["askPx"]) == (best["bids"][0][0], best["asks"][0][0])
    assert ticker["last"] == rows_of(frames, "trades")[-1]["px"]
    assert {**floor.okx("market/ticker", instId=SWAP)[0], "ts": ""} == {**ticker, "ts": ""}
    assert set(ticker) >= {"volCcy24h", "vol24h", "open24h", "high24h", "low24h", "sodUtc0", "sodUtc8"}


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("market/ticker", {"instId": "BTC-EUR"}, "51001"),
        ("market/ticker", {}, "50014"),
        ("public/instruments", {}, "50014"),
        ("market/candles", {"instId": SWAP, "bar": "7m"}, "51000"),
        ("market/trades", {"instId": SWAP, "limit": "x"}, "51000"),
        ("public/funding-rate", {"instId": "BTC-USDT"}, "51000"),
        ("market/nothing", {}, "404"),
    ],
)
def test_wrong_requests_are_refused_in_the_envelope(floor: Floor, path: str, params: dict[str, str], code: str) -> None:
    body = floor.get(f"/api/v5/{path}", **params)
    assert (body["code"], body["data"]) == (code, [])


def test_the_eleventh_request_of_two_seconds_gets_50011(floor: Floor) -> None:
    codes = [floor.get("/api/v5/public/time")["code"] for _ in range(11)]
    assert codes == ["0"] * 10 + ["50011"]
    floor.clock.advance(2 * SECOND_MS)
    assert floor.get("/api/v5/public/time")["code"] == "0"


def test_a_raised_rate_is_delivered_whole() -> None:
    floor = Floor(rate=20_000)
    wire = Wire(floor, BUSINESS)
    wire.subscribe("trades-all", instId=SWAP)
    first = floor.truth.newest_trade("okx", SWAP, floor.now_ms) + 1
    numbers = [int(row["tradeId"]) for row in rows_of(wire.run(SECOND_MS // 2), "trades-all")]
    assert numbers == list(range(first, floor.truth.newest_trade("okx", SWAP, floor.now_ms) + 1))
    assert len(numbers) > 5_000


def _instruments(floor: Floor, kind: str) -> list[Any]:
    return floor.okx("public/instruments", instType=kind)


def _told(row: dict[str, str]) -> tuple[object, ...]:
    return int(row["tradeId"]), row["px"], row["sz"], row["side"], int(row["ts"])


def _true(floor: Floor, name: str, first: int) -> list[Any]:
    return floor_true(floor, name, first, floor.truth.newest_trade("okx", name, floor.now_ms))


def floor_true(floor: Floor, name: str, first: int, last: int) -> list[Any]:
    trades = floor.truth.trades("okx", name, first, last, floor.now_ms)
    return [tuple(each[part] for part in ("number", "price", "size", "side", "time_ms")) for each in trades]
