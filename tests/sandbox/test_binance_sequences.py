"""Binance's trades and books: consecutive by stream and REST, equal to the truth, with the faults of sequences."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from infra.sandbox.grid import HOUR_MS
from infra.sandbox.server import SandboxServer
from infra.sandbox.venue_truth import VenueTruth
from tests.patience import PATIENCE_S
from tests.sandbox.conftest import START_MS, ManualClock
from tests.sandbox.inject import post

SYMBOL = "BTCUSDT"
BEFORE_HOUR_MS = START_MS // HOUR_MS * HOUR_MS + HOUR_MS - 1_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEFORE_HOUR_MS)


@pytest.fixture
def truth(sandbox: SandboxServer) -> VenueTruth:
    return VenueTruth(sandbox.venues)


@pytest.fixture
async def trades(sandbox: SandboxServer) -> AsyncIterator[ClientConnection]:
    async with connect(f"{sandbox.ws_url}/market/ws/btcusdt@aggTrade") as socket:
        await events(socket)
        yield socket


@pytest.fixture
async def books(sandbox: SandboxServer) -> AsyncIterator[ClientConnection]:
    async with connect(f"{sandbox.ws_url}/public/ws/btcusdt@depth@100ms") as socket:
        await events(socket)
        yield socket


async def events(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events sent so far."""
    await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while "result" not in (event := json.loads(await socket.recv())):
            found.append(event)
    return found


async def run(socket: ClientConnection, clock: ManualClock, steps: int, step_ms: int = 250) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(steps):
        clock.advance(step_ms)
        found += await events(socket)
    return found


async def rest(http: httpx.AsyncClient, path: str, **query: object) -> Any:
    answer = await http.get(f"/fapi/v1/{path}", params={"symbol": SYMBOL, **{k: str(v) for k, v in query.items()}})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_aggregates_are_consecutive_over_the_end_of_an_hour_and_rest_has_the_same(
    trades: ClientConnection, http: httpx.AsyncClient, clock: ManualClock, truth: VenueTruth
) -> None:
    told = await run(trades, clock, 10)
    numbers = [event["a"] for event in told]
    assert told[0]["T"] < BEFORE_HOUR_MS + 1_000 < told[-1]["T"]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert all(after["f"] == before["l"] + 1 for before, after in pairwise(told))
    held = await rest(http, "aggTrades", fromId=numbers[0], limit=1_000)
    assert [[row[name] for name in "apqflTm"] for row in held] == [[row[name] for name in "apqflTm"] for row in told]
    true = truth.aggregates(SYMBOL, numbers[0], numbers[-1], clock.now_ms())
    assert [(each["number"], each["first"], each["last"]) for each in true] == [
        (row["a"], row["f"], row["l"]) for row in told
    ]
    single = truth.trades("binance", SYMBOL, told[0]["f"], told[-1]["l"], clock.now_ms())
    assert [each["number"] for each in single] == list(range(told[0]["f"], told[-1]["l"] + 1))


async def test_a_depth_stream_continues_a_snapshot_of_a_thousand_levels_to_the_true_book(
    books: ClientConnection, http: httpx.AsyncClient, clock: ManualClock, truth: VenueTruth
) -> None:
    await run(books, clock, 3, 100)
    snapshot = await rest(http, "depth", limit=1_000)
    sides = {side: dict(snapshot[side]) for side in ("bids", "asks")}
    told = await run(books, clock, 30, 100)
    before = snapshot["lastUpdateId"]
    for event in told:
        assert event["pu"] == before
        assert event["U"] <= before + 1 <= event["u"]
        before = event["u"]
        for side, name in (("bids", "b"), ("asks", "a")):
            sides[side].update(dict(event[name]))
    true = truth.book("binance", SYMBOL, before, 500, clock.now_ms())
    for side in sides:
        held = {float(price): float(size) for price, size in sides[side].items() if float(size)}
        best = sorted(held, reverse=side == "bids")[:500]
        assert [[price, held[price]] for price in best] == [[float(price), float(size)] for price, size in true[side]]


async def test_a_gap_leaves_out_trades_and_changes_of_books(
    trades: ClientConnection, books: ClientConnection, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    await run(books, clock, 5, 100)
    known = (await rest(http, "depth", limit=5))["lastUpdateId"]
    before = await events(trades)
    last = before[-1]["a"] if before else (await rest(http, "aggTrades", limit=1))[0]["a"]
    await post(http, kind="gap", venue="binance", stream="btcusdt@aggTrade", count=1)
    await post(http, kind="gap", venue="binance", stream="btcusdt@depth*", count=1)
    changes = await run(books, clock, 5, 100)
    assert changes[0]["pu"] > known
    assert (await events(trades))[0]["a"] == last + 2


async def test_a_control_message_can_be_refused(trades: ClientConnection, http: httpx.AsyncClient) -> None:
    await post(http, kind="error_answer", venue="binance", count=1, code=2)
    await trades.send('{"method":"SUBSCRIBE","params":["ethusdt@aggTrade"],"id":5}')
    answer = json.loads(await trades.recv())
    assert (answer["id"], answer["error"]["code"]) == (5, 2)
    await trades.send('{"method":"LIST_SUBSCRIPTIONS","id":6}')
    assert json.loads(await trades.recv())["result"] == ["btcusdt@aggTrade"]


async def test_a_rotation_is_announced_as_server_shutdown(trades: ClientConnection, http: httpx.AsyncClient) -> None:
    await post(http, kind="rotation", venue="binance")
    assert json.loads(await trades.recv())["event"]["e"] == "serverShutdown"
