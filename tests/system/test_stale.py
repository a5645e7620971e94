"""The exchange is silent for minutes: no old kline is served as the newest, held ones are served, and it recovers."""

import asyncio
from pathlib import Path

import httpx

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.series import Series
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from tests.patience import PATIENCE_S
from tests.system.world import World, world

NEWEST = "/fapi/v1/klines?symbol=BTCUSDT&interval={}&limit=20"
STEPS_MS = {"1m": MINUTE_MS, "3m": 3 * MINUTE_MS}
SILENT_MINUTES = 8


async def newest(here: World, client: httpx.AsyncClient, code: str) -> httpx.Response:
    """Request the newest klines; assert that a 200 ends with the newest one that was due at the request."""
    step_ms = STEPS_MS[code]
    due_ms = (here.clock.now_ms() - CLOSE_GRACE_MS) // step_ms * step_ms
    answer = await client.get(NEWEST.format(code))
    if answer.status_code == 200:
        assert answer.json()[-1][0] + step_ms >= due_ms, "a stale 200"
        assert len(answer.json()) == 20
    else:
        assert (answer.status_code, answer.json()["code"]) == (503, -1001)
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["cache-control"] == "no-store"
    return answer


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/v1/ready")).status_code == 200


async def until_ready(here: World, client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await is_ready(client):
            await here.clock.sleep(1)


async def the_outage(here: World, client: httpx.AsyncClient, began_ms: int) -> None:
    """Assert what one process answers while the exchange is away, from `began_ms` until SILENT_MINUTES later."""
    tag = (await newest(here, client, "1m")).headers.get("etag", '"none"')
    refused: set[str] = set()
    while here.clock.now_ms() < began_ms + SILENT_MINUTES * MINUTE_MS:
        for code in STEPS_MS:
            if (await newest(here, client, code)).status_code == 503:
                refused.add(code)
        await here.clock.sleep(2)
    assert refused == set(STEPS_MS)

    confirmed = await client.get(NEWEST.format("1m"), headers={"If-None-Match": tag})
    assert confirmed.status_code == 503, "what a client holds is not confirmed either"

    ready = await client.get("/v1/ready")
    assert ready.status_code == 503
    report = ready.json()
    assert report["series"]["stale"] >= 2, report
    assert began_ms - MINUTE_MS < report["since_ms"] < began_ms + 3 * MINUTE_MS
    health = (await client.get("/v1/health")).json()
    assert health["status"] == "degraded"
    assert any(reason.startswith("tails stale: ") for reason in health["reasons"])
    assert health["tails"]["1m"]["age_ms"] > (SILENT_MINUTES - 3) * MINUTE_MS
    assert health["tails"]["1m"]["state"] == "stale"
    assert health["tails"]["1d"]["state"] == "fresh"

    before_ms = here.clock.now_ms()
    partial = await client.get(NEWEST.format("1m") + "&allow_partial=true")
    assert (partial.status_code, partial.headers["cache-control"]) == (200, "no-store")
    rows = partial.json()
    stated = partial.headers["x-klinenode-coverage"]
    assert stated.startswith("partial; missing=")
    start_ms, end_ms = map(int, stated.split("missing=")[1].split(";")[0].split(",")[-1].split("-"))
    assert start_ms == rows[-1][0] + MINUTE_MS, "where the rows end the missing klines begin"
    assert end_ms >= M1.grid.floor(before_ms - CLOSE_GRACE_MS), "up to now"
    assert len(rows) == 20
    assert partial.content == here.truth(Series(KLINES, "BTCUSDT", M1), rows[0][0], rows[-1][0] + 1)

    old = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={began_ms - DAY_MS}&limit=500"
    answer = await client.get(old)
    assert (answer.status_code, len(answer.json())) == (200, 500), "the past is served all the time"


async def test_an_exchange_that_falls_silent_makes_nothing_stale(tmp_path: Path) -> None:
    intervals = "1m,3m,1d"
    async with (
        world(tmp_path, speed=30.0, symbols=3) as here,
        here.node(backfill_days=2, intervals=intervals) as writer,
        writer.http() as at_writer,
    ):
        await writer.until_whole()
        async with here.node(backfill_days=2, intervals=intervals) as reader, reader.http() as at_reader:
            assert (await at_reader.get("/v1/health")).json()["role"] == "reader"
            for client in (at_writer, at_reader):
                await until_ready(here, client)
            began_ms = here.clock.now_ms()
            here.sandbox.inject(kind="http_5xx", status=503)
            here.sandbox.inject(kind="refuse", status=0)
            here.sandbox.inject(kind="cut")
            async with asyncio.TaskGroup() as group:
                group.create_task(the_outage(here, at_writer, began_ms))
                group.create_task(the_outage(here, at_reader, began_ms))

            here.sandbox.faults.clear()
            for client in (at_writer, at_reader):
                await until_ready(here, client)
                async with asyncio.timeout(PATIENCE_S):
                    while (await newest(here, client, "1m")).status_code != 200:
                        await here.clock.sleep(2)
            await here.hold_whole(writer)
            assert await here.differing(writer) == []


async def test_a_process_that_starts_while_rest_is_away_learns_the_time_from_what_the_writer_commits(
    tmp_path: Path,
) -> None:
    """Sockets stay up in a ban, so the writer continues; its readers must not refuse for the whole ban."""
    async with (
        world(tmp_path, speed=30.0, symbols=2) as here,
        here.node(backfill_days=1, intervals="1m,3m") as writer,
    ):
        await writer.until_whole()
        here.sandbox.inject(kind="http_5xx", status=503)
        async with here.node(backfill_days=1, intervals="1m,3m") as reader, reader.http() as client:
            assert not reader.node.parts.clock.is_trusted, "it may lag, for all that anybody said"
            await until_ready(here, client)
            async with asyncio.timeout(PATIENCE_S):
                while (await newest(here, client, "1m")).status_code != 200:
                    await here.clock.sleep(2)
            assert writer.node.parts.clock.is_trusted, "its sockets are up"
