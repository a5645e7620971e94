"""The dashboard's answers on a real node: a hole is a letter and a number of them, and so is its repair."""

from pathlib import Path

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.span import Span, Spans
from app.events import GapsCounted
from app.kinds.registry import named
from tests.http.fakes import LOCAL_TOKEN
from tests.system.world import world

SYMBOL = "BTCUSDT"


async def test_the_overview_and_the_days_show_a_hole_and_its_repair(tmp_path: Path) -> None:
    async with (
        world(tmp_path, symbols=2, weight_limit=1_000_000) as here,
        here.node(backfill_days=2, auto_sync_symbols=False, symbols=SYMBOL, admin_token=LOCAL_TOKEN) as watched,
    ):
        await watched.until_whole()
        series, parts = named(SYMBOL, M1), watched.node.parts
        whole = parts.holdings.ledger(series)
        day_ms = whole.held.hull.end_ms // DAY_MS * DAY_MS - DAY_MS
        async with watched.http() as client:

            async def letters() -> str:
                answer = await client.get("/v1/coverage/days", params={"days": 2})
                [found] = answer.json()["series"]
                assert found["symbol"] == SYMBOL
                return str(found["days"])

            before = await letters()
            parts.holdings.set_ledger(series, whole.without(Spans([Span(day_ms, day_ms + 5 * MINUTE_MS)])))
            assert (before[0] in "hv", await letters()) == (True, f"p{before[1]}")
            parts.wake()
            await watched.until(lambda event: isinstance(event, GapsCounted) and event.missing_klines > 0)
            await watched.until_whole()
            assert (await letters())[0] in "hv"

            span = {"start": day_ms - 2 * DAY_MS, "end": day_ms - DAY_MS}
            wish = {"symbols": [SYMBOL], "intervals": ["1m"], **span}
            taken = await client.post(
                "/v1/admin/backfill", json=wish, headers={"authorization": f"Bearer {LOCAL_TOKEN}"}
            )
            assert taken.status_code in (200, 202), taken.text
            overview = (await client.get("/v1/overview")).json()
    [job] = overview["jobs"]
    assert (job["job"], job["named"], job["total"]) == ("backfill", [f"{SYMBOL} 1m"], 1440)
    assert 0 <= job["done"] <= job["total"]
    assert (overview["health"]["role"], overview["numbers"]["writers"]) == ("writer", 1)
    assert overview["numbers"]["klines_wished"] > 2000
    assert overview["numbers"]["rows_written"] > 2000
    assert overview["exchange"]["weight_used"] > 0
    assert overview["exchange"]["stand_down"] is None
    for lag in overview["close_lag"].values():
        assert lag["p50_s"] is None or lag["p99_s"] is None or lag["p50_s"] <= lag["p99_s"]
