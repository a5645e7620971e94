"""A whole replay on a real database and a virtual clock: REST as it was then, sockets that agree, and its control."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow
from app.binance.statistics_rows import OPEN_INTEREST
from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.funding import FUNDING
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.node.replay import Replay
from app.replaying.follow import LOOK_S
from app.settings import load
from infra.process.clock import SystemClock
from infra.sqlite.sqlite_store import SqliteWriter
from tests.patience import PATIENCE_S
from tests.replaying.material import DAY, NEVER_MS, Machine, batches_of, exchange_info, filled, minutes

SPAN = Span(DAY, DAY + 6 * HOUR_MS)
SPEED = 60
STREAMS = ("btcusdt@kline_1m", "btcusdt@kline_5m", "btcusdt@kline_1h")
CODES = ("1m", "5m", "1h")


class Stage:
    """A running replay with a listener on each of STREAMS."""

    def __init__(self, replay: Replay, machine: Machine, client: httpx.AsyncClient) -> None:
        self.replay = replay
        self.machine = machine
        self.client = client
        self.newest: dict[str, dict[str, Any]] = {}
        self._heard = asyncio.Event()

    def hear(self, stream: str, payload: bytes) -> None:
        self.newest[stream] = json.loads(payload)
        self._heard.set()

    async def minute(self) -> int:
        """Let a minute of the replay pass, and wait for its frames; returns its close (ms)."""
        close_ms = self.replay.clock.seen_ms + MINUTE_MS
        await self.machine.advance(MINUTE_MS // SPEED)
        async with asyncio.timeout(PATIENCE_S):
            while self.replay.clock.seen_ms < close_ms:
                self._heard.clear()
                await self._heard.wait()
        return close_ms

    async def get(self, path: str, **query: str | int) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, (path, query, answer.text, answer.headers)
        assert answer.headers["cache-control"] in ("no-store", "public, max-age=0, must-revalidate")
        return answer.json()

    async def klines(self, code: str, **query: str | int) -> list[list[Any]]:
        found: list[list[Any]] = await self.get("/fapi/v1/klines", symbol="BTCUSDT", interval=code, **query)
        return found


@asynccontextmanager
async def stage(folder: Path, *more: Batch, **made: Any) -> AsyncIterator[Stage]:
    settings = load(
        {
            "db_url": await filled(folder / "then.db", SPAN, *more, **made),
            "log_level": "ERROR",
            "admin_token": "s3cret",
        },
        env_file=None,
    )
    machine = Machine(DAY + 365 * 24 * HOUR_MS)
    replay = Replay(settings, SPAN, SPEED, machine)
    transport = httpx.ASGITransport(app=replay.app)
    async with replay.running(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client:
        here = Stage(replay, machine, client)
        for stream in STREAMS:
            replay.hub.join(stream, here.hear)
        yield here


def row_of(event: dict[str, Any]) -> list[Any]:
    """The REST row of a kline event."""
    k = event["k"]
    return [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], "0"]


async def test_rest_and_sockets_agree_at_every_minute(tmp_path: Path) -> None:
    stored = [json.loads(KLINES.encode(row, row.open_ms + MINUTE_MS - 1)) for row in minutes(SPAN)]
    async with stage(tmp_path) as here:
        here.replay.player.seek(DAY + 4 * HOUR_MS - 4 * MINUTE_MS)
        for _ in range(12):
            close_ms = await here.minute()
            done = (close_ms - DAY) // MINUTE_MS
            assert await here.get("/fapi/v1/time") == {"serverTime": close_ms}
            for code, stream in zip(CODES, STREAMS, strict=True):
                event = here.newest[stream]
                assert event["E"] == close_ms
                assert event["k"]["x"] == (INTERVALS[code].grid.floor(close_ms) == close_ms)
                for only_final in ("true", "false"):
                    rows = await here.klines(code, limit=3, only_final=only_final)
                    shown = [row for row in rows if row[6] < close_ms]
                    assert len(rows) == 3
                    if event["k"]["x"] or only_final == "false":
                        assert rows[-1] == row_of(event)
                    assert len(shown) == 3 - (only_final == "false" and not event["k"]["x"])
            assert await here.klines("1m", limit=100) == stored[done - 100 : done]
            assert await here.klines("1m", startTime=close_ms - 5 * MINUTE_MS, limit=50) == stored[done - 5 : done]
            assert await here.klines("1m", startTime=close_ms) == []


async def test_a_hole_is_refused_until_the_writer_beside_has_filled_it(tmp_path: Path) -> None:
    hole = Span(DAY + 2 * HOUR_MS, DAY + 2 * HOUR_MS + 2 * MINUTE_MS)
    async with stage(tmp_path, lacking=hole) as here:
        here.replay.player.seek(DAY + 2 * HOUR_MS + 30 * MINUTE_MS)
        hourly: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1h", "limit": 2, "only_final": "false"}
        for query in ({**hourly, "interval": "1m", "limit": 40}, hourly):
            answer = await here.client.get("/fapi/v1/klines", params=query)
            assert (answer.status_code, answer.headers["x-klinenode-reason"]) == (503, "not-held")
            assert "retry-after" not in answer.headers, "nobody fetches it meanwhile"
            assert "klinenode backfill" in answer.json()["msg"]
        assert len(await here.klines("1m", limit=28)) == 28
        writer = await SqliteWriter.open(f"sqlite:///{tmp_path}/then.db", SystemClock())
        await writer.commit(batches_of(SPAN, "BTCUSDT")[:1])
        await writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while (await here.client.get("/fapi/v1/klines", params=hourly)).status_code != 200:
                await here.machine.advance(round(LOOK_S * 1_000))
        assert len(await here.klines("1m", limit=40)) == 40


async def test_the_list_has_who_was_listed_then(tmp_path: Path) -> None:
    listed_ms, ended_ms = DAY + HOUR_MS, DAY + 2 * HOUR_MS
    info = exchange_info(
        BTCUSDT=(0, NEVER_MS), OLDUSDT=(0, ended_ms), NEWUSDT=(listed_ms, NEVER_MS), LATERUSDT=(SPAN.end_ms, NEVER_MS)
    )
    async with stage(tmp_path, info=info) as here:
        for at_ms, expected in (
            (listed_ms - MINUTE_MS, {"BTCUSDT", "OLDUSDT"}),
            (listed_ms, {"BTCUSDT", "OLDUSDT", "NEWUSDT"}),
            (ended_ms + 2 * MINUTE_MS, {"BTCUSDT", "NEWUSDT"}),
        ):
            here.replay.player.seek(at_ms)
            body = await here.get("/fapi/v1/exchangeInfo")
            assert {each["symbol"] for each in body["symbols"]} == expected
            assert {each["status"] for each in body["symbols"]} == {"TRADING"}
            assert body["serverTime"] <= at_ms
            unlisted = await here.client.get("/fapi/v1/klines", params={"symbol": "LATERUSDT", "interval": "1m"})
            assert unlisted.json() == {"code": -1121, "msg": "Invalid symbol."}


async def test_metrics_and_fundings_appear_when_they_were_published(tmp_path: Path) -> None:
    five, kind = INTERVALS["5m"], METRICS[OPEN_INTEREST]
    metrics = [kind.row(open_ms, f"{n}.5", f"{n}.25", "1.00") for n, open_ms in enumerate(five.grid.opens(*SPAN))]
    fundings = [
        FundingRow(DAY + n * HOUR_MS + 7 - STAMP_AFTER_OPEN_MS, f"0.0000{n}000", "1.00", "Regular") for n in range(1, 6)
    ]
    hours = Spans([SPAN])
    async with stage(
        tmp_path,
        Batch(Series(kind, "BTCUSDT", five), Source.REST, hours, metrics),
        Batch(Series(FUNDING, "BTCUSDT", INTERVALS["1h"]), Source.REST, hours, fundings),
    ) as here:
        for late_ms, expected in ((30_000, 1), (90_000, 0)):
            here.replay.player.seek(DAY + 3 * HOUR_MS + late_ms)
            rows = await here.get("/futures/data/openInterestHist", symbol="BTCUSDT", period="5m", limit=2)
            newest_ms = DAY + 3 * HOUR_MS - expected * five.grid.step_ms
            assert [row["timestamp"] for row in rows] == [newest_ms - five.grid.step_ms, newest_ms]
            paid = await here.get("/fapi/v1/fundingRate", symbol="BTCUSDT", limit=1)
            assert paid[0]["fundingTime"] == DAY + (3 - expected) * HOUR_MS + 7
        refused = await here.client.get("/fapi/v1/premiumIndex", params={"symbol": "BTCUSDT"})
        assert (refused.status_code, refused.headers["x-klinenode-reason"]) == (503, "not-held")
        assert "retry-after" not in refused.headers
        assert "it has klines" in refused.json()["msg"]
        for path in ("/docs", "/openapi.json"):  # where the answer to an unknown path sends people
            assert (await here.client.get(path)).status_code == 200


async def test_an_operator_sets_the_replay_and_a_wrong_wish_changes_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        operator = {"authorization": "Bearer s3cret"}
        assert (await here.client.get("/v1/replay")).status_code == 401
        assert (await here.client.post("/v1/replay", content=b"{}")).status_code == 401
        wrong: list[object] = [
            {"speed": 0},
            {"speed": 1_001},
            {"speed": 2, "seek": 1},
            {"seek": "noon"},
            {"spede": 2},
            7,
        ]
        for wish in wrong:
            answer = await here.client.post("/v1/replay", json=wish, headers=operator)
            assert (answer.status_code, bool(answer.json()["error"])) == (400, True)
        before = (await here.client.get("/v1/replay", headers=operator)).json()
        assert (before["speed"], before["closed_until"], before["paused"]) == (SPEED, DAY, False)
        wish = {"speed": 1_000, "pause": True, "seek": "2026-11-19T01:00:30Z", "loop": True}
        after = (await here.client.post("/v1/replay", json=wish, headers=operator)).json()
        assert (after["speed"], after["paused"], after["loop"]) == (1_000, True, True)
        assert (after["time"], after["closed_until"]) == (DAY + HOUR_MS + 30_000, DAY + HOUR_MS)
        await here.machine.advance(10_000)
        assert await here.get("/fapi/v1/time") == {"serverTime": DAY + HOUR_MS + 30_000}
        assert (await here.get("/v1/health"))["status"] == "ok"
        metrics = (await here.client.get("/metrics")).text
        assert 'klinenode_replay_lag_seconds_bucket{le="0.001"}' in metrics
