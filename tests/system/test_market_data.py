"""Market data through the node equals the exchange's own answers: every byte, every error, and the cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.events import RequestDone
from app.market.endpoints import ENDPOINTS
from app.market.mark_mirror import PATH, STREAM
from app.node.exchange_clock import DATE_ERROR_MS_MAX
from infra.net.tls import trusting_nobody
from infra.sandbox.faults import Fault
from tests.patience import PATIENCE_S
from tests.system.world import START_MS, Watched, World, world

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
YOUNG = "NEW1120USDT"  # all its klines are cheap to compute
SYMBOL = f"symbol={YOUNG}"
KLINES = f"{SYMBOL}&interval=5m"
DATA = f"{SYMBOL}&period=5m"

GOOD = [
    f"/fapi/v1/depth?{SYMBOL}",
    *(f"/fapi/v1/depth?{SYMBOL}&limit={limit}" for limit in (5, 10, 20, 50, 100, 500, 1000)),
    f"/fapi/v1/rpiDepth?{SYMBOL}",
    f"/fapi/v1/trades?{SYMBOL}",
    f"/fapi/v1/trades?{SYMBOL}&limit=1000",
    f"/fapi/v1/aggTrades?{SYMBOL}",
    f"/fapi/v1/aggTrades?{SYMBOL}&limit=7",
    f"/fapi/v1/aggTrades?{SYMBOL}&startTime={START_MS - HOUR_MS}&endTime={START_MS - HOUR_MS // 2}",
    f"/fapi/v1/aggTrades?{SYMBOL}&fromId=1&limit=3",
    *(
        f"/fapi/v1/{name}?{what}&interval={interval}"
        for name, what in (
            ("continuousKlines", f"pair={YOUNG}&contractType=PERPETUAL"),
            ("indexPriceKlines", f"pair={YOUNG}"),
            ("markPriceKlines", SYMBOL),
            ("premiumIndexKlines", SYMBOL),
        )
        for interval in ("1m", "1h", "1d", "1w", "1M")
    ),
    f"/fapi/v1/markPriceKlines?{KLINES}&limit=99",
    f"/fapi/v1/markPriceKlines?{KLINES}&limit=499",
    f"/fapi/v1/markPriceKlines?{KLINES}&limit=1500",
    f"/fapi/v1/markPriceKlines?{KLINES}&startTime=0&limit=3",
    f"/fapi/v1/markPriceKlines?{KLINES}&startTime={START_MS - DAY_MS}&endTime={START_MS - DAY_MS // 2}",
    f"/fapi/v1/markPriceKlines?{KLINES}&endTime={START_MS - DAY_MS // 2}&limit=4",
    f"/fapi/v1/premiumIndex?{SYMBOL}",
    "/fapi/v1/premiumIndex",
    f"/fapi/v1/fundingRate?{SYMBOL}",
    "/fapi/v1/fundingRate?limit=7",
    f"/fapi/v1/fundingRate?{SYMBOL}&startTime=0&limit=2",
    "/fapi/v1/fundingInfo",
    f"/fapi/v1/ticker/24hr?{SYMBOL}",
    "/fapi/v1/ticker/24hr",
    f"/fapi/v1/ticker/price?{SYMBOL}",
    "/fapi/v1/ticker/price",
    f"/fapi/v2/ticker/price?{SYMBOL}",
    "/fapi/v2/ticker/price",
    f"/fapi/v1/ticker/bookTicker?{SYMBOL}",
    "/fapi/v1/ticker/bookTicker",
    f"/fapi/v1/openInterest?{SYMBOL}",
    "/fapi/v1/indexInfo",
    "/fapi/v1/assetIndex",
    "/fapi/v1/assetIndex?symbol=BTCUSD",
    f"/fapi/v1/constituents?{SYMBOL}",
    "/fapi/v1/insuranceBalance",
    f"/fapi/v1/insuranceBalance?{SYMBOL}",
    "/fapi/v1/symbolAdlRisk",
    f"/fapi/v1/symbolAdlRisk?{SYMBOL}",
    "/fapi/v1/tradingSchedule",
    *(
        f"/futures/data/{name}?{DATA}"
        for name in (
            "openInterestHist",
            "topLongShortAccountRatio",
            "topLongShortPositionRatio",
            "globalLongShortAccountRatio",
            "takerlongshortRatio",
        )
    ),
    f"/futures/data/openInterestHist?{DATA}&limit=2",
    f"/futures/data/openInterestHist?{DATA}&startTime={START_MS - HOUR_MS}&endTime={START_MS - HOUR_MS // 2}",
    f"/futures/data/basis?pair={YOUNG}&contractType=PERPETUAL&period=1h",
    f"/futures/data/delivery-price?pair={YOUNG}",
]
BAD = [
    "/fapi/v1/depth",
    "/fapi/v1/depth?symbol=",
    "/fapi/v1/depth?symbol=NOSUCHUSDT",
    f"/fapi/v1/depth?{SYMBOL}&limit=7",
    f"/fapi/v1/depth?{SYMBOL}&limit=1001",
    f"/fapi/v1/depth?{SYMBOL}&limit=x",
    f"/fapi/v1/trades?{SYMBOL}&limit=1001",
    f"/fapi/v1/trades?{SYMBOL}&limit=0",
    f"/fapi/v1/aggTrades?{SYMBOL}&limit=1001",
    f"/fapi/v1/aggTrades?{SYMBOL}&startTime={START_MS - 3 * DAY_MS}",
    f"/fapi/v1/markPriceKlines?{SYMBOL}",
    f"/fapi/v1/markPriceKlines?{SYMBOL}&interval=1s",
    f"/fapi/v1/markPriceKlines?{KLINES}&limit=1501",
    f"/fapi/v1/markPriceKlines?{KLINES}&startTime=2&endTime=1",
    f"/fapi/v1/indexPriceKlines?{KLINES}",
    f"/fapi/v1/continuousKlines?pair={YOUNG}&interval=1m",
    "/fapi/v1/premiumIndex?symbol=NOSUCHUSDT",
    "/fapi/v1/openInterest",
    f"/futures/data/openInterestHist?{SYMBOL}",
    "/futures/data/openInterestHist?symbol=NOSUCHUSDT&period=5m",
    f"/futures/data/openInterestHist?{DATA}&limit=501",
    f"/futures/data/openInterestHist?{DATA}&startTime={START_MS - 40 * DAY_MS}",
    "/futures/data/delivery-price",
]
REFUSED_THERE = [
    "/fapi/v1/premiumIndex?symbol=DOGEUSD_PERP",
    "/fapi/v1/indexInfo?symbol=BTCUSDT",
    f"/fapi/v1/continuousKlines?pair={YOUNG}&contractType=NEXT_QUARTER&interval=1m",
    f"/fapi/v1/continuousKlines?pair={YOUNG}&contractType=WEEKLY&interval=1m",
    f"/futures/data/openInterestHist?{SYMBOL}&period=7m",
    f"/futures/data/openInterestHist?{DATA}&startTime={START_MS - 32 * DAY_MS}",
]


@asynccontextmanager
async def held_still(
    folder: Path, **changes: object
) -> AsyncIterator[tuple[World, Watched, httpx.AsyncClient, httpx.AsyncClient]]:
    """A node that holds its wish while the clock stands; yields the world, the node and clients of both sides."""
    settings: dict[str, Any] = {
        "backfill_days": 1, "auto_sync_symbols": False, "symbols": YOUNG, "weight_per_minute": 100_000, **changes
    }  # fmt: skip
    async with world(folder, symbols=4, weight_limit=1_000_000) as here, here.node(**settings) as watched:
        await here.hold_whole(watched)
        async with (
            watched.http() as client,
            httpx.AsyncClient(base_url=here.sandbox.base_url, timeout=60, verify=trusting_nobody()) as exchange,
        ):
            yield here, watched, client, exchange


def asked_for_others(here: World, since: int) -> list[str]:
    """The paths requested from the exchange since `since`, without the node's own requests."""
    own = ("/fapi/v1/time", "/fapi/v1/exchangeInfo", "/fapi/v1/klines")
    return [
        entry.path
        for entry in here.sandbox.journal.since(since)
        if entry.path.startswith("/f") and entry.path not in own
    ]


def asked_of(here: World, target: str, since: int) -> list[int]:
    """The weights of the requests for `target`'s path since `since`."""
    path = target.split("?")[0]
    return [entry.weight for entry in here.sandbox.journal.since(since) if entry.path == path]


async def test_every_answer_is_the_exchanges_own_and_costs_what_it_counts(tmp_path: Path) -> None:
    assert {target.split("?")[0] for target in GOOD} == set(ENDPOINTS)
    async with held_still(tmp_path) as (here, watched, client, exchange):
        for target in GOOD:
            begun, events = here.sandbox.journal.written, len(watched.events)
            mine = await client.get(target)
            booked = [event for event in watched.events[events:] if isinstance(event, RequestDone)]
            path = target.split("?")[0]
            assert asked_of(here, target, begun) == [event.weight for event in booked if event.path == path], target
            theirs = await exchange.get(target)
            assert (mine.status_code, mine.content) == (200, theirs.content), target
            assert mine.headers["x-mbx-used-weight-1m"] == "1"
            assert mine.headers["content-type"] == theirs.headers["content-type"]
            begun = here.sandbox.journal.written
            assert (await client.get(target)).content == mine.content
            assert asked_of(here, target, begun) == [], f"{target}: the second costs nothing"


async def test_every_error_is_the_exchanges_own_and_what_is_known_costs_nothing(tmp_path: Path) -> None:
    async with held_still(tmp_path) as (here, _, client, exchange):
        for target in (*BAD, *REFUSED_THERE):
            begun = here.sandbox.journal.written
            mine = await client.get(target)
            assert bool(asked_of(here, target, begun)) == (target in REFUSED_THERE), target
            theirs = await exchange.get(target)
            assert (mine.status_code, mine.content) == (theirs.status_code, theirs.content), target
            begun = here.sandbox.journal.written
            assert (await client.get(target)).content == mine.content
            assert asked_of(here, target, begun) == [], f"{target}: it is refused from memory"


async def test_what_needs_a_key_is_refused_as_the_exchange_does_without_asking_it(tmp_path: Path) -> None:
    async with held_still(tmp_path) as (here, _, client, exchange):
        begun = here.sandbox.journal.written
        for method, path in (
            ("GET", "historicalTrades"),
            ("POST", "order"),
            ("GET", "allOrders"),
            ("PUT", "listenKey"),
        ):
            mine = await client.request(method, f"/fapi/v1/{path}?{SYMBOL}")
            theirs = await exchange.request(method, f"/fapi/v1/{path}?{SYMBOL}")
            assert (mine.status_code, mine.content) == (theirs.status_code, theirs.content) == (401, mine.content)
        mine, theirs = await client.get("/fapi/v1/nonsense"), await exchange.get("/fapi/v1/nonsense")
        assert (mine.status_code, mine.content) == (theirs.status_code, theirs.content)
        assert len(asked_for_others(here, begun)) == 5, "only what we asked it ourselves"


async def test_five_hundred_bots_cost_what_one_does(tmp_path: Path) -> None:
    targets = [
        f"/fapi/v1/depth?{SYMBOL}",
        "/fapi/v1/premiumIndex",
        f"/fapi/v1/fundingRate?{SYMBOL}",
        "/fapi/v1/ticker/24hr",
    ]
    async with held_still(tmp_path) as (here, _, client, _exchange):
        begun = here.sandbox.journal.written
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(client.get(target)) for target in targets for _ in range(125)]
        assert {task.result().status_code for task in answers} == {200}
        assert len({task.result().content for task in answers}) == len(targets)
        assert [len(asked_of(here, target, begun)) for target in targets] == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["http_418", "http_429"])
async def test_during_a_ban_nothing_is_asked_and_everybody_told_when_to_come_back(tmp_path: Path, kind: str) -> None:
    async with held_still(tmp_path) as (here, watched, client, _exchange):
        assert (await client.get("/fapi/v1/premiumIndex")).status_code == 200
        here.sandbox.faults.add(Fault(kind, count=1, ban_s=600, retry_after_s=600), here.clock.now_ms())
        begun = here.sandbox.journal.written
        for path in ("/fapi/v1/openInterest", "/fapi/v1/depth", "/fapi/v1/fundingRate"):
            answer = await client.get(f"{path}?{SYMBOL}")
            assert (answer.status_code, answer.json()["code"]) == (503, -1001)
            left_ms = watched.node.parts.guard.until_ms - watched.node.parts.clock.now_ms()
            assert abs(left_ms - 600_000) <= DATE_ERROR_MS_MAX, "the node measures the exchange's time"
            assert int(answer.headers["retry-after"]) == -(-left_ms // 1_000)
        assert asked_for_others(here, begun) == ["/fapi/v1/openInterest"]
        assert (await client.get("/fapi/v1/premiumIndex")).status_code == 200, "what holds is given"


async def test_with_read_through_off_nothing_is_passed_through(tmp_path: Path) -> None:
    async with held_still(tmp_path, read_through=False) as (here, _, client, _exchange):
        begun = here.sandbox.journal.written
        assert (await client.get(f"/fapi/v1/depth?{SYMBOL}")).status_code == 503
        assert asked_for_others(here, begun) == []


async def test_mark_prices_come_from_memory_once_they_are_heard(tmp_path: Path) -> None:
    heard, moments = asyncio.Event(), set[int]()

    def listen(_stream: str, payload: bytes) -> None:
        moments.update(event["E"] for event in orjson.loads(payload) if event["s"] == YOUNG)
        heard.set()

    settings: dict[str, Any] = {"backfill_days": 1, "auto_sync_symbols": False, "symbols": YOUNG}
    async with world(tmp_path, symbols=4, speed=2.0) as here, here.node(**settings) as watched:
        await watched.until_whole()
        watched.node.parts.hub.join(STREAM, listen)
        async with watched.http() as client, asyncio.timeout(PATIENCE_S):
            rows: list[dict[str, Any]] = []
            while len(rows) < 5:  # one trade after another, as the stream sent them, without a request
                heard.clear()
                begun = here.sandbox.journal.written
                row = (await client.get(f"{PATH}?{SYMBOL}")).json()
                is_held = row["time"] in moments and not asked_of(here, PATH, begun)
                rows = [*rows, row] if is_held else []
                await heard.wait()
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    assert len(set(times)) > 1
