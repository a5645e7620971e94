"""The sandbox's Deribit: protocol, trades, books, candles, fundings, open interest; REST, sockets, truth agree."""

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from infra.sandbox.grid import HOUR_MS, MINUTE_MS, SECOND_MS, utc_ms
from tests.sandbox.wire import DERIBIT, Floor, Wire, data_of

BTC = "BTC-PERPETUAL"
EVERY = (BTC, "ETH-PERPETUAL", "BTC_USDC-PERPETUAL", "BTC-25DEC26")
SIDES = ("bids", "asks")


@pytest.fixture
def floor() -> Floor:
    return Floor()


@pytest.fixture
def wire(floor: Floor) -> Wire:
    return Wire(floor, DERIBIT)


def exact(text: str) -> Any:
    """JSON whose numbers are decimals."""
    return json.loads(text, parse_float=Decimal)


def test_an_answer_has_the_id_of_its_request_and_the_times(wire: Wire, floor: Floor) -> None:
    answer = wire.call("get_time")
    assert (answer["jsonrpc"], answer["result"], answer["testnet"]) == ("2.0", floor.now_ms, False)
    assert answer["usOut"] - answer["usIn"] == answer["usDiff"]


def test_a_subscription_is_answered_with_the_channels_that_exist(wire: Wire) -> None:
    channels = [f"trades.{BTC}.100ms", "trades.NO-PERPETUAL.100ms", f"book.{BTC}.7ms", f"perpetual.{EVERY[3]}.100ms"]
    assert wire.call("subscribe", channels=channels)["result"] == channels[:1]
    assert wire.call("unsubscribe", channels=channels)["result"] == channels[:1]
    assert wire.run(SECOND_MS) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", -32700),
        ("[]", -32600),
        ('{"id":1}', -32600),
        ('{"id":1,"method":"public/nothing"}', -32601),
        ('{"id":1,"method":"public/ticker","params":{"instrument_name":"X"}}', -32602),
        ('{"id":1,"method":"public/subscribe","params":{"channels":"all"}}', -32602),
        ('{"id":1,"method":"public/subscribe","params":{"channels":["book.BTC-PERPETUAL.raw"]}}', 13778),
        ('{"id":1,"method":"public/set_heartbeat","params":{"interval":9}}', -32602),
        ('{"id":1,"method":"public/get_order_book","params":{"instrument_name":"BTC-PERPETUAL","depth":7}}', -32602),
    ],
)
def test_a_wrong_request_is_answered_with_an_error_and_the_session_goes_on(wire: Wire, message: str, code: int) -> None:
    (answer,) = wire.send(message)
    assert answer["error"]["code"] == code
    assert answer.get("id") == (1 if '"id":1' in message else None)
    assert wire.call("test")["result"] == {"version": "1.2.26"}


def test_a_session_without_an_answer_to_test_request_is_closed(floor: Floor) -> None:
    polite, silent = Wire(floor, DERIBIT), Wire(floor, DERIBIT)
    for each in (polite, silent):
        assert each.call("set_heartbeat", interval=10)["result"] == "ok"
    for _ in range(3):
        floor.clock.advance(10 * SECOND_MS)
        kinds = [frame["params"]["type"] for frame in polite.run()]
        assert kinds == ["heartbeat", "test_request"]
        polite.call("test")
        silent.run()
    assert not polite.peer.is_closed
    assert silent.peer.is_closed


def test_too_many_requests_end_the_session_with_10028(wire: Wire) -> None:
    answers = [wire.call("test") for _ in range(101)]
    assert ["error" in answer for answer in answers] == [False] * 100 + [True]
    assert answers[-1]["error"]["code"] == 10028
    assert wire.peer.is_closed


def test_eleven_subscriptions_at_once_are_too_many(wire: Wire) -> None:
    for _ in range(10):
        wire.call("subscribe", channels=[f"ticker.{BTC}.100ms"])
    assert wire.call("subscribe", channels=[f"ticker.{BTC}.100ms"])["error"]["code"] == 10028


def test_instruments_state_their_units(floor: Floor) -> None:
    rows = {row["instrument_name"]: row for row in floor.deribit("get_instruments", currency="any", kind="future")}
    assert set(rows) == set(EVERY)
    names = ("instrument_type", "settlement_currency", "contract_size", "min_trade_amount", "tick_size")
    assert [rows[BTC][name] for name in names] == ["reversed", "BTC", 10.0, 10.0, 0.5]
    assert [rows[EVERY[2]][name] for name in names] == ["linear", "USDC", 0.0001, 0.0001, 0.5]
    assert rows[EVERY[3]]["expiration_timestamp"] == utc_ms(2026, 12, 25, 8)
    assert rows[BTC]["settlement_period"] == "perpetual"
    assert [row["instrument_name"] for row in floor.deribit("get_instruments", currency="ETH")] == ["ETH-PERPETUAL"]


@pytest.mark.parametrize("name", EVERY)
def test_every_trade_comes_once_over_the_end_of_an_hour_and_is_the_true_one(name: str) -> None:
    floor = Floor(now_ms=utc_ms(2026, 11, 21, 4, 59) + 50 * SECOND_MS)
    wire, channel = Wire(floor, DERIBIT), f"trades.{name}.100ms"
    wire.call("subscribe", channels=[channel])
    first = floor.truth.newest_trade("deribit", name, floor.now_ms) + 1
    told = [row for rows in data_of(wire.run(20 * SECOND_MS), channel) for row in rows]
    assert [told_of(row) for row in told] == true_of(floor, name, first)
    assert len(told) > 20


@pytest.mark.parametrize("name", EVERY)
def test_an_amount_is_contracts_of_the_stated_size(floor: Floor, name: str) -> None:
    answer = floor.venues.answer("/api/v2/public/get_instruments", {"currency": "any"}, floor.now_ms)
    sizes = {row["instrument_name"]: row["contract_size"] for row in exact(answer.body.decode())["result"]}
    params = {"instrument_name": name, "count": "50"}
    answer = floor.venues.answer("/api/v2/public/get_last_trades_by_instrument", params, floor.now_ms)
    trades = exact(answer.body.decode())["result"]["trades"]
    assert len(trades) == 50
    assert all(row["amount"] == row["contracts"] * sizes[name] for row in trades)
    assert len({row["trade_id"] for row in trades}) == 50


def test_any_span_of_trades_can_be_paged_through_by_trade_seq(floor: Floor) -> None:
    last = floor.truth.newest_trade("deribit", BTC, floor.now_ms) - 10_000
    first, found, more = last - 2_499, list[Any](), True
    while more:
        start = first + len(found)
        page = floor.deribit(
            "get_last_trades_by_instrument",
            instrument_name=BTC,
            start_seq=start,
            end_seq=last,
            count=1_000,
            sorting="asc",
        )
        found, more = found + page["trades"], page["has_more"]
    assert [row["trade_seq"] for row in found] == list(range(first, last + 1))
    assert [told_of(row) for row in found[:200]] == true_of(floor, BTC, first, first + 199)


def test_trades_without_a_sorting_are_the_newest_first(floor: Floor) -> None:
    page = floor.deribit("get_last_trades_by_instrument", instrument_name=BTC)
    newest = floor.truth.newest_trade("deribit", BTC, floor.now_ms)
    assert [row["trade_seq"] for row in page["trades"]] == list(range(newest, newest - 10, -1))
    assert page["has_more"] is True


def test_trades_between_two_times_include_both_ends(floor: Floor) -> None:
    start_ms, end_ms = floor.now_ms - MINUTE_MS, floor.now_ms - MINUTE_MS // 2
    span = {"instrument_name": BTC, "start_timestamp": start_ms, "end_timestamp": end_ms, "sorting": "asc"}
    rows = floor.deribit("get_last_trades_by_instrument_and_time", **span, count=1_000)["trades"]
    true = floor.truth.trades("deribit", BTC, rows[0]["trade_seq"] - 1, rows[-1]["trade_seq"] + 1, floor.now_ms)
    assert [start_ms <= each["time_ms"] <= end_ms for each in true] == [False, *[True] * len(rows), False]


def test_a_followed_book_is_the_true_one_at_every_change_id(floor: Floor, wire: Wire) -> None:
    channel = f"book.{BTC}.100ms"
    wire.call("subscribe", channels=[channel])
    book: dict[str, dict[float, float]] = {side: {} for side in SIDES}
    before, checked = None, 0
    for place, data in enumerate(data_of(wire.run(15 * SECOND_MS), channel)):
        assert (data["type"], data.get("prev_change_id")) == ("change" if place else "snapshot", before)
        before = data["change_id"]
        for side in SIDES:
            for action, price, amount in data[side]:
                assert (price in book[side]) == (action != "new")
                if action == "delete":
                    del book[side][price]
                else:
                    book[side][price] = amount
        if place % 10 == 0:
            assert book == true_book(floor, before)
            checked += 1
    assert checked >= 15


def true_book(floor: Floor, change_id: int | None, levels: int = 1_000) -> dict[str, dict[float, float]]:
    assert change_id is not None
    true: Any = floor.truth.book("deribit", BTC, change_id, levels, floor.now_ms)
    return {side: {float(price): float(size) for price, size in true[side]} for side in SIDES}


def test_rest_and_the_grouped_channel_have_the_best_levels(floor: Floor, wire: Wire) -> None:
    channel = f"book.{BTC}.none.10.100ms"
    wire.call("subscribe", channels=[channel])
    data = data_of(wire.run(SECOND_MS), channel)[-1]
    rest = floor.deribit("get_order_book", instrument_name=BTC, depth=10)
    assert rest["change_id"] == data["change_id"]
    assert all(rest[side] == data[side] for side in SIDES)
    assert {side: dict(rest[side]) for side in SIDES} == true_book(floor, rest["change_id"], 10)
    assert (rest["best_bid_price"], rest["best_ask_price"]) == (rest["bids"][0][0], rest["asks"][0][0])


def test_a_ticker_carries_funding_and_open_interest(floor: Floor, wire: Wire) -> None:
    wire.call("subscribe", channels=[f"ticker.{BTC}.100ms", f"ticker.{EVERY[3]}.100ms"])
    frames = wire.run(SECOND_MS)
    ticker = data_of(frames, f"ticker.{BTC}.100ms")[-1]
    assert ticker["open_interest"] == float(floor.truth.open_interest("deribit", BTC, floor.now_ms)["size"])
    hour_ms = (floor.now_ms // HOUR_MS + 1) * HOUR_MS
    (coming,) = floor.truth.fundings("deribit", BTC, hour_ms, hour_ms + 1, hour_ms)
    assert ticker["current_funding"] == float(coming["rate"])
    assert "funding_8h" in ticker
    assert "funding_8h" not in data_of(frames, f"ticker.{EVERY[3]}.100ms")[-1]
    assert {**floor.deribit("ticker", instrument_name=BTC), "timestamp": 0} == {**ticker, "timestamp": 0}


def test_fundings_are_hourly_and_complete(floor: Floor) -> None:
    span = {"start_timestamp": floor.now_ms - 9 * HOUR_MS, "end_timestamp": floor.now_ms}
    rows = floor.deribit("get_funding_rate_history", instrument_name=BTC, **span)
    true = floor.truth.fundings("deribit", BTC, floor.now_ms - 9 * HOUR_MS, floor.now_ms, floor.now_ms)
    assert [(row["timestamp"], row["interest_8h"]) for row in rows] == [
        (each["time_ms"], float(each["rate"])) for each in true
    ]
    assert len(rows) == 9
    assert all(after["prev_index_price"] == before["index_price"] for before, after in pairwise(rows))


def test_small_numbers_have_an_exponent(floor: Floor) -> None:
    span = {"start_timestamp": str(floor.now_ms - 9 * HOUR_MS), "end_timestamp": str(floor.now_ms)}
    answer = floor.venues.answer(
        "/api/v2/public/get_funding_rate_history", {"instrument_name": BTC, **span}, floor.now_ms
    )
    assert b'"interest_8h":0.0001,"interest_1h":1.25e-5' in answer.body
    assert all(row["interest_1h"] * 8 == row["interest_8h"] for row in exact(answer.body.decode())["result"])


def test_a_chart_is_made_of_the_trades(floor: Floor, wire: Wire) -> None:
    name = "BTC_USDC-PERPETUAL"
    floor.clock.advance(MINUTE_MS - floor.now_ms % MINUTE_MS)
    open_ms = floor.now_ms
    channel, trades = f"chart.trades.{name}.1", f"trades.{name}.100ms"
    wire.call("subscribe", channels=[channel, trades])
    wire.run(MINUTE_MS + SECOND_MS)
    frames = [exact(text) for text in wire.texts]
    rows = [row for row in data_of(frames, channel) if row["tick"] == open_ms]
    part = [row for each in data_of(frames, trades) for row in each if row["timestamp"] < open_ms + MINUTE_MS]
    assert rows[-1]["volume"] == sum(row["amount"] for row in part)
    prices = [row["price"] for row in part]
    assert [rows[-1][each] for each in ("open", "high", "low", "close")] == [
        *(prices[0], max(prices), min(prices), prices[-1])
    ]
    chart = floor.deribit(
        "get_tradingview_chart_data",
        instrument_name=name,
        start_timestamp=open_ms,
        end_timestamp=open_ms,
        resolution="1",
    )
    assert (chart["status"], chart["ticks"], chart["close"]) == ("ok", [open_ms], [float(prices[-1])])
    later = {"start_timestamp": open_ms + HOUR_MS, "end_timestamp": open_ms + 2 * HOUR_MS, "resolution": "60"}
    assert floor.deribit("get_tradingview_chart_data", instrument_name=name, **later)["status"] == "no_data"


def test_rest_answers_too_many_requests_with_10028(floor: Floor) -> None:
    codes = [floor.get("/api/v2/public/test").get("error", {}).get("code") for _ in range(101)]
    assert codes == [None] * 100 + [10028]
    floor.clock.advance(SECOND_MS)
    assert "result" in floor.get("/api/v2/public/test")


def test_a_raised_rate_is_delivered_whole() -> None:
    floor = Floor(rate=20_000)
    wire, channel = Wire(floor, DERIBIT), f"trades.{BTC}.100ms"
    wire.call("subscribe", channels=[channel])
    first = floor.truth.newest_trade("deribit", BTC, floor.now_ms) + 1
    numbers = [row["trade_seq"] for rows in data_of(wire.run(SECOND_MS // 2), channel) for row in rows]
    assert numbers == list(range(first, floor.truth.newest_trade("deribit", BTC, floor.now_ms) + 1))
    assert len(numbers) > 5_000


def told_of(row: dict[str, Any]) -> tuple[object, ...]:
    return row["trade_seq"], row["price"], row["amount"], row["direction"], row["timestamp"]


def true_of(floor: Floor, name: str, first: int, last: int | None = None) -> list[Any]:
    last = floor.truth.newest_trade("deribit", name, floor.now_ms) if last is None else last
    return [
        (each["number"], float(each["price"]), float(each["size"]), each["side"], each["time_ms"])
        for each in floor.truth.trades("deribit", name, first, last, floor.now_ms)
    ]
