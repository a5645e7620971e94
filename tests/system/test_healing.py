"""Hostile exchange, sockets and archive: whatever happens, in the end the store equals the exchange."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.series import Series
from app.events import (
    ArchiveRejected,
    DisputeSettled,
    Event,
    GapsCounted,
    GarbageDropped,
    KlineClosed,
    KlineDisputed,
    RequestDone,
    SocketHandedOver,
    SocketLost,
    StandDownBegan,
)
from app.kinds.klines import KLINES
from app.querying.refusal import RETRY_AFTER_S
from infra.binance.budget import IN_FLIGHT_MAX
from infra.sqlite.library import sqlite3
from tests.patience import PATIENCE_S
from tests.system.world import Watched, World, world


async def minutes_pass(watched: Watched, here: World, minutes: int) -> None:
    """Wait until `minutes` have passed and a plan was made after that."""
    end_ms = here.clock.now_ms() + minutes * MINUTE_MS
    await watched.until(lambda event: isinstance(event, GapsCounted) and here.clock.now_ms() >= end_ms)


async def everything_heals(here: World, watched: Watched) -> None:
    await here.hold_whole(watched)
    assert await here.differing(watched) == []
    assert here.sandbox.limiter.answers_429 == 0
    assert here.sandbox.journal.banned_requests == 0


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ({"kind": "cut", "count": 3}, SocketLost),
        ({"kind": "drop_close", "symbol": "BTCUSDT", "count": 3}, None),
        ({"kind": "late_close", "delay_s": 5, "count": 20}, None),
        ({"kind": "duplicate", "count": 200}, None),
        ({"kind": "reorder", "count": 50}, None),
        ({"kind": "malformed_frame", "count": 40}, GarbageDropped),
        ({"kind": "contradict", "symbol": "BTCUSDT", "false_final": "second", "count": 2}, DisputeSettled),
        ({"kind": "server_shutdown", "delay_s": 15}, SocketHandedOver),
        ({"kind": "server_shutdown", "delay_s": 0, "count": 2}, SocketHandedOver),
        ({"kind": "half_open"}, SocketLost),
        ({"kind": "slow_socket", "delay_s": 40}, SocketHandedOver),
        ({"kind": "silence", "duration_s": 100}, None),
        ({"kind": "http_5xx", "status": 503, "count": 6}, RequestDone),
        ({"kind": "malformed", "count": 4}, None),
        ({"kind": "slow", "delay_s": 4, "count": 5}, None),
    ],
    ids=lambda value: str(value["kind"]) if isinstance(value, dict) else "",
)
async def test_live_ingest_heals_after(tmp_path: Path, fault: dict[str, object], shows: type[Event] | None) -> None:
    async with world(tmp_path, speed=60.0, symbols=5) as here, here.node(backfill_days=1) as watched:
        await watched.until_whole()
        here.sandbox.inject(**fault)
        await minutes_pass(watched, here, 3)
        await everything_heals(here, watched)
        assert shows is None or watched.count(shows)


@pytest.mark.parametrize("kind", ["refuse", "handshake_hang", "wrong_route"])
async def test_live_ingest_heals_after_a_cut_that_the_next_sockets_do_not_mend(tmp_path: Path, kind: str) -> None:
    async with world(tmp_path, speed=60.0, symbols=5) as here, here.node(backfill_days=1) as watched:
        await watched.until_whole()
        here.sandbox.inject(kind=kind, count=2)
        here.sandbox.inject(kind="cut")
        await watched.until(lambda _: watched.count(SocketLost) == 3)
        await watched.until(lambda event: isinstance(event, KlineClosed))
        await minutes_pass(watched, here, 1)
        await everything_heals(here, watched)


async def test_a_first_closing_frame_that_was_wrong_is_replaced_by_the_row_of_rest(tmp_path: Path) -> None:
    async with world(tmp_path, speed=60.0, symbols=5) as here, here.node(backfill_days=1) as watched:
        await watched.until_whole()
        here.sandbox.inject(kind="contradict", symbol="BTCUSDT", false_final="first", count=2)
        await watched.until(lambda _: watched.count(DisputeSettled) == 2)
        await here.hold_whole(watched)
        assert await here.differing(watched) == [], "nor is any longer kline made of the wrong minute"
        disputed = {event.open_ms for event in watched.events if isinstance(event, KlineDisputed)}
        with sqlite3.connect(here.folder / "klinenode.db") as database:
            kept = database.execute("SELECT open_time, old_source, new_source FROM revision WHERE interval = '1m'")
            assert set(kept.fetchall()) == {(open_ms, "ws", "rest") for open_ms in disputed}


async def test_a_stream_that_falls_silent_alone_is_told_from_a_quiet_one_by_rest(tmp_path: Path) -> None:
    async with world(tmp_path, speed=60.0, symbols=5) as here, here.node(backfill_days=1) as watched:
        await watched.until_whole()
        here.sandbox.inject(kind="silence", symbol="BTCUSDT")
        await watched.until(lambda event: isinstance(event, SocketHandedOver) and event.reason.startswith("BTCUSDT 1m"))
        here.sandbox.control.faults.clear()
        await watched.until(lambda event: isinstance(event, KlineClosed) and event.symbol == "BTCUSDT")
        await everything_heals(here, watched)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "corrupt_zip"},
        {"kind": "wrong_checksum"},
        {"kind": "archive_missing_rows"},
        {"kind": "archive_404"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
async def test_what_an_archive_file_lacks_comes_from_rest(tmp_path: Path, fault: dict[str, object]) -> None:
    async with world(tmp_path, speed=10.0, symbols=3) as here:
        here.sandbox.inject(**fault)
        async with here.node() as watched:
            await everything_heals(here, watched)
            assert watched.count(ArchiveRejected)
            paths = Counter(entry.path for entry in here.sandbox.journal.since(0) if entry.kind == "archive")
            assert max(paths.values()) <= 2, "a bad file is not downloaded in a loop"


async def test_a_ban_in_the_middle_of_a_backfill_is_waited_out_while_held_data_is_served(tmp_path: Path) -> None:
    """No request is sent during a stand-down, however long it is; afterwards the backfill continues."""
    async with world(tmp_path, speed=60.0, symbols=5) as here, here.node() as watched:
        await watched.until(lambda event: isinstance(event, RequestDone) and "/klines" in event.path)
        here.sandbox.inject(kind="http_418", ban_s=600, count=1)
        await watched.until(lambda event: isinstance(event, StandDownBegan))
        began_ms = here.clock.now_ms()
        stand_down = watched.node.parts.guard.active()
        assert stand_down is not None
        assert stand_down.until_ms - began_ms > 500_000
        async with watched.http() as client:
            health = (await client.get("/v1/health")).json()
            assert health["status"] == "degraded"
            assert any("standing down" in reason for reason in health["reasons"])
            held = watched.node.parts.holdings.ledger(Series(KLINES, "BTCUSDT", M1)).held
            if held:
                span = next(iter(held))
                first = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1&startTime={span.start_ms}"
                assert (await client.get(first)).status_code == 200
            answer = await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5&startTime=0")
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= RETRY_AFTER_S
        while here.clock.now_ms() < stand_down.until_ms - 5_000:
            await here.clock.sleep(5)
        late = [entry for entry in here.sandbox.journal.since(0) if entry.kind == "rest" and entry.time_ms > began_ms]
        assert len(late) <= IN_FLIGHT_MAX, "more than what was under way came after the stand-down began"
        assert all(entry.time_ms < began_ms + 60_000 for entry in late), "requests left during a stand-down"
        await here.hold_whole(watched)
        assert await here.differing(watched) == []


async def test_listings_and_delistings_take_effect_while_the_node_runs(tmp_path: Path) -> None:
    async with (
        world(tmp_path, speed=60.0, symbols=4) as here,
        here.node(backfill_days=1, symbol_sync_interval_sec=20) as watched,
    ):
        await watched.until_whole()
        here.sandbox.inject(kind="list_symbol", symbol="FRESHUSDT")
        await watched.until(lambda event: isinstance(event, KlineClosed) and event.symbol == "FRESHUSDT")
        await watched.until_whole()
        here.sandbox.inject(kind="delist_symbol", symbol="ADAUSDT", in_s=600)
        async with asyncio.timeout(PATIENCE_S):
            while "ADAUSDT" in watched.node.parts.symbols.wished_set:
                await here.clock.sleep(1)
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
        assert Series(KLINES, "FRESHUSDT", M1) in watched.node.parts.wish().series()
