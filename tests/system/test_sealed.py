"""Sealed blocks in a running node: served, found damaged, never served then, and fetched again."""

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.series import Series
from app.events import BlockGivenUp, Event, RowsSealed
from app.holding import sealing
from app.kinds.klines import KLINES
from infra.sqlite.library import sqlite3
from infra.sqlite.url import sqlite_path
from tests.stored import sealed_rows
from tests.stores.databases import Damage, SqliteDatabase
from tests.system.world import START_MS, Watched, World, world

BTC = Series(KLINES, "BTCUSDT", M1)
DAY2_MS = START_MS // DAY_MS * DAY_MS - 2 * DAY_MS
SETTINGS: Final[dict[str, Any]] = {"intervals": "1m,5m", "backfill_days": 3, "seal_after_days": 0.5}


def is_given_up(event: Event) -> bool:
    return isinstance(event, BlockGivenUp)


def database(here: World) -> SqliteDatabase:
    return SqliteDatabase(here.folder / "klinenode.db")


async def page(client: httpx.AsyncClient, start_ms: int) -> httpx.Response:
    return await client.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={start_ms}&limit=700")


async def until_sealed(here: World, watched: Watched) -> None:
    """Wait until everything is held, and the days of minutes that files or the chore have sealed are there."""
    await watched.until_whole()
    while len(database(here).blocks(BTC)) < 2:
        await watched.until(lambda event: isinstance(event, RowsSealed))


async def test_what_is_sealed_is_served_and_is_the_exchanges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PASS_EVERY_S", 10.0)
    async with world(tmp_path, symbols=2) as here, here.node(**SETTINGS) as watched, watched.http() as client:
        await until_sealed(here, watched)
        assert {rows for _, rows in database(here).blocks(BTC)} == {1440}
        for start_ms in (DAY2_MS, DAY2_MS + 1_000 * MINUTE_MS):
            found = await page(client, start_ms)
            assert found.content == here.truth(BTC, start_ms, start_ms + 700 * MINUTE_MS)
        await here.hold_whole(watched)
        assert await here.differing(watched) == []
        with closing(sqlite3.connect(sqlite_path(watched.node.parts.settings.db_url))) as connection:
            assert len(sealed_rows(connection)[BTC]) >= 2 * 1440


@pytest.mark.parametrize("how", ["flipped", "truncated"])
async def test_a_block_that_a_reader_finds_damaged_is_not_served_and_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Damage
) -> None:
    monkeypatch.setattr(sealing, "PASS_EVERY_S", 10.0)
    async with world(tmp_path, symbols=2) as here, here.node(**SETTINGS) as watched, watched.http() as client:
        await until_sealed(here, watched)
        database(here).damage(BTC, DAY2_MS, how)
        refused = await page(client, DAY2_MS + 900 * MINUTE_MS)
        assert (refused.status_code, refused.json()["code"]) == (503, -1001)
        assert "retry-after" in refused.headers
        if not any(map(is_given_up, watched.events)):
            await watched.until(is_given_up)
        await until_served(here, client)
        metrics = (await client.get("/metrics")).text
        assert "klinenode_blocks_damaged_total 1.0" in metrics
        await here.hold_whole(watched)
        assert await here.differing(watched) == []


async def test_a_block_with_other_rows_is_found_by_its_sha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PASS_EVERY_S", 10.0)
    monkeypatch.setattr(sealing, "CHECK_EVERY_S", 5.0)
    async with world(tmp_path, symbols=2) as here, here.node(**SETTINGS) as watched, watched.http() as client:
        await until_sealed(here, watched)
        database(here).damage(BTC, DAY2_MS, "another")
        await watched.until(is_given_up)
        await until_served(here, client)
        await here.hold_whole(watched)
        assert await here.differing(watched) == []


async def test_a_follower_that_meets_a_damaged_block_has_the_writer_fetch_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PASS_EVERY_S", 10.0)
    monkeypatch.setattr(sealing, "CHECK_EVERY_S", 10_000.0)
    async with world(tmp_path, symbols=2) as here, here.node(**SETTINGS) as writer, writer.http() as beside:
        await until_sealed(here, writer)
        day = f"startTime={DAY2_MS}&endTime={DAY2_MS + DAY_MS - 1}&limit=1500"
        kept = await beside.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&{day}")  # the writer need not read it
        assert kept.status_code == 200
        async with here.node(**SETTINGS) as reader, reader.http() as client:
            assert (await client.get("/v1/health")).json()["role"] == "reader"
            database(here).damage(BTC, DAY2_MS, "flipped")
            assert (await page(client, DAY2_MS + 900 * MINUTE_MS)).status_code == 503
            if not any(map(is_given_up, writer.events)):
                await writer.until(is_given_up)
            await until_served(here, client)


async def test_nothing_is_sealed_where_that_is_wished(tmp_path: Path) -> None:
    async with (
        world(tmp_path, symbols=2) as here,
        here.node(**SETTINGS | {"seal_after_days": 0}) as watched,
    ):
        await watched.until_whole()
        assert [database(here).blocks(Series(KLINES, "BTCUSDT", INTERVALS[code])) for code in ("1m", "5m")] == [[], []]
        await here.hold_whole(watched)
        assert await here.differing(watched) == []


async def until_served(here: World, client: httpx.AsyncClient) -> None:
    """Wait until the day is served again, and compare it with the exchange's."""
    start_ms = DAY2_MS + 900 * MINUTE_MS
    while (found := await page(client, start_ms)).status_code != 200:
        assert found.status_code == 503
        await here.clock.sleep(2)
    assert found.content == here.truth(BTC, start_ms, start_ms + 700 * MINUTE_MS)
