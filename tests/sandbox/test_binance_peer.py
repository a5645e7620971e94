"""Binance without sockets, beside OKX and Deribit in one virtual time."""

import json
from itertools import pairwise

import pytest

from infra.sandbox.grid import SECOND_MS
from tests.sandbox.wire import DERIBIT, PUBLIC, Floor, Wire

TRADES = "/market/ws/btcusdt@aggTrade"
BOOKS = "/public/ws/btcusdt@depth@100ms"


@pytest.fixture
def floor() -> Floor:
    return Floor()


def test_trades_and_books_are_those_of_the_truth_and_of_rest(floor: Floor) -> None:
    trades, books = Wire(floor, TRADES), Wire(floor, BOOKS)
    told, changes = [], []
    for _ in range(50):
        floor.clock.advance(100)
        told += trades.run()
        changes += books.run()
    numbers = [event["a"] for event in told]
    rest = floor.get("/fapi/v1/aggTrades", symbol="BTCUSDT", fromId=numbers[0], limit=1_000)
    assert [row["a"] for row in rest] == numbers
    true = floor.truth.aggregates("BTCUSDT", numbers[0], numbers[-1], floor.now_ms)
    assert [each["number"] for each in true] == numbers
    assert all(after["pu"] == before["u"] for before, after in pairwise(changes))
    assert floor.get("/fapi/v1/depth", symbol="BTCUSDT", limit=1_000)["lastUpdateId"] == changes[-1]["u"]


def test_control_messages_are_answered(floor: Floor) -> None:
    wire = Wire(floor, "/market/stream")
    (answer,) = wire.send({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "btcusdt@depth"], "id": 1})
    assert answer == {"result": None, "id": 1}
    frames = wire.run(2 * SECOND_MS)
    assert {frame["stream"] for frame in frames} == {"btcusdt@aggTrade"}
    (answer,) = wire.send({"method": "LIST_SUBSCRIPTIONS", "id": 2})
    assert answer["result"] == ["btcusdt@aggTrade", "btcusdt@depth"]
    wire.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 3})
    assert wire.run(SECOND_MS) == []
    assert wire.send("{")[0]["error"]["code"] == 3


def test_faults_hit_the_venue_they_name(floor: Floor) -> None:
    wires = [Wire(floor, path) for path in (TRADES, PUBLIC, DERIBIT)]
    floor.inject(kind="cut", venue="binance")
    assert [wire.peer.is_closed for wire in wires] == [True, False, False]
    wire = Wire(floor, TRADES)
    floor.inject(kind="rotation", venue="binance", delay_s=1)
    assert wire.run()[0]["event"]["e"] == "serverShutdown"
    wire.run(SECOND_MS)
    assert wire.peer.close_code == 1001
    (newest,) = floor.get("/fapi/v1/aggTrades", symbol="BTCUSDT", limit=1)
    floor.inject(kind="gap", venue="binance", count=1)
    wire = Wire(floor, TRADES)
    assert wire.run(SECOND_MS)[0]["a"] == newest["a"] + 2


def test_requests_are_refused_as_told_and_above_the_weight(floor: Floor) -> None:
    floor.inject(kind="http_429", venue="binance", count=1)
    statuses = [floor.venues.answer("/fapi/v1/time", {}, floor.now_ms).status for _ in range(2_402)]
    assert (statuses[0], statuses[1], statuses[-1]) == (429, 200, 429)
    body = floor.venues.answer("/fapi/v1/depth", {"symbol": "NO"}, floor.now_ms + 60_000).body
    assert json.loads(body)["code"] == -1121
