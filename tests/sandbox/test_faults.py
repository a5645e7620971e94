"""Faults are listed, counted and narrowed down, and each of REST has its effect as many times as stated."""

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from infra.sandbox import faults
from infra.sandbox.faults import KINDS, FaultBoard, Target, parse_fault
from tests.sandbox.inject import KLINES, post, status

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock


async def test_faults_are_listed_counted_and_cleared(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    number = await post(http, kind="http_5xx", status=502, symbol="BTCUSDT", count=1)
    assert await status(http) == 502
    assert await status(http) == 200
    listed = (await http.get("/sandbox/faults")).json()["faults"]
    assert listed == [
        {
            "id": number,
            "active": False,
            "hits": 1,
            "since_ms": clock.now_ms(),
            "kind": "http_5xx",
            "symbol": "BTCUSDT",
            "count": 1,
            "status": 502,
        }
    ]
    second = await post(http, kind="http_5xx")
    assert (await http.delete(f"/sandbox/faults/{number}")).json() == {"cleared": 1}
    assert await status(http) == 503
    assert (await http.delete("/sandbox/faults")).json() == {"cleared": 1}
    assert second > number
    assert await status(http) == 200


NONSENSE: list[object] = [
    "cut",
    {},
    {"kind": "earthquake"},
    {"kind": "cut", "colour": "red"},
    {"kind": "cut", "count": "3"},
    {"kind": "cut", "count": True},
    {"kind": "slow", "probability": 2},
    {"kind": "malformed", "shape": "round"},
    {"kind": "list_symbol"},
    {"kind": "list_symbol", "symbol": "BTCUSDT"},
    {"kind": "delist_symbol", "symbol": "OMGUSDT"},
]


async def test_a_fault_that_makes_no_sense_is_refused(http: httpx.AsyncClient) -> None:
    for wish in NONSENSE:
        assert (await http.post("/sandbox/faults", json=wish)).status_code == 400, wish
    assert (await http.post("/sandbox/faults", content=b"{")).status_code == 400
    assert (await http.get("/sandbox/faults")).json() == {"faults": []}


def test_filters_counts_durations_and_chances_narrow_a_fault_down() -> None:
    def hits(target: Target, now_ms: int = 0, **fields: object) -> int:
        board = FaultBoard()
        board.add(parse_fault({"kind": "silence", **fields}), 0)
        return sum(board.take("silence", target, now_ms) is not None for _ in range(1_000))

    frame = Target("BTCUSDT", "1m", streams=("btcusdt@kline_1m",))
    assert hits(frame) == 1_000
    assert hits(frame, symbol="btcusdt", interval="1m", stream="btc*@kline_*", count=7) == 7
    assert hits(frame, symbol="ETHUSDT") == hits(frame, interval="1M") == hits(frame, stream="eth*") == 0
    assert hits(frame, path="/data/*") == 0
    assert hits(frame, 1_999, duration_s=2) == 1_000
    assert hits(frame, 2_000, duration_s=2) == 0
    some = hits(frame, probability=0.25, seed=5)
    assert 150 < some < 350
    assert hits(frame, probability=0.25, seed=5) == some
    assert FaultBoard().take("silence", frame, 0) is None


def test_every_kind_is_described() -> None:
    assert [kind for kind in KINDS if kind not in str(faults.__doc__)] == []


async def test_rest_answers_turn_into_errors(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    await post(http, kind="http_5xx", path="/fapi/v1/klines", count=1)
    assert await status(http, "/fapi/v1/ping") == 200
    assert (await http.get(KLINES)).json() == {"code": -1008, "msg": "Service Unavailable."}
    await post(http, kind="http_429", retry_after_s=7, count=1)
    answer = await http.get(KLINES)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (429, "7", -1003)
    assert await status(http) == 200
    await post(http, kind="http_418", ban_s=90, retry_after=False, count=1)
    answer = await http.get(KLINES)
    assert answer.status_code == 418
    assert "retry-after" not in answer.headers
    assert f"banned until {clock.now_ms() + 90_000}." in answer.json()["msg"]
    clock.advance(89_999)
    assert await status(http) == 418
    clock.advance(1)
    assert await status(http) == 200
    await post(http, kind="http_418", ban_s=90, count=1)
    assert (await http.get(KLINES)).headers["retry-after"] == "90"
    await http.delete("/sandbox/faults")
    assert await status(http) == 200


async def test_rest_answers_arrive_late(http: httpx.AsyncClient, clock: "ManualClock") -> None:
    await post(http, kind="slow", delay_s=3, count=1)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(http.get(KLINES))
        while not (await http.get("/sandbox/faults")).json()["faults"][0]["hits"]:
            pass
        clock.advance(2_999)
        assert await status(http) == 200
        assert not waiting.done()
        clock.advance(1)
    assert waiting.result().status_code == 200


async def test_rest_answers_arrive_broken(http: httpx.AsyncClient) -> None:
    whole = (await http.get(KLINES)).content
    await post(http, kind="malformed", count=1)
    assert (await http.get(KLINES)).content == whole[: len(whole) // 2]
    await post(http, kind="malformed", shape="empty", count=1)
    assert (await http.get(KLINES)).content == b""
    await post(http, kind="malformed", shape="html", count=1)
    assert (await http.get(KLINES)).headers["content-type"].startswith("text/html")
    await post(http, kind="malformed", shape="abort", count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(KLINES)
    rows = json.loads(whole)
    await post(http, kind="missing_rows", rows=2, count=1)
    assert (await http.get(KLINES)).json() == rows[:4] + rows[6:]
    await post(http, kind="missing_rows", from_ms=rows[1][0], to_ms=rows[3][0])
    for _ in range(2):
        assert (await http.get(KLINES)).json()[2:] == rows[:1] + rows[3:]
