"""Market data beside klines: processes that do not write ask the one that does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.ports.errors import StandDown
from app.querying.statistics import HeldAnswer
from tests.http.fakes import NOW_MS, Node
from tests.http.market import DEPTH, LARGE
from tests.http.processes import processes as two_processes


@asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A reader and the writer, which both have read the list of symbols."""
    async with two_processes(folder) as (reader, writer):
        reader.symbols.info = writer.symbols.info = b"{}"
        yield reader, writer


async def test_rows_from_the_archive_are_named_also_by_way_of_the_writer(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client:
        writer.statistics.answer = HeldAnswer(LARGE, 15_000, "1; 1700000100000-1700000100000")
        for _ in range(2):
            answer = await client.get("/futures/data/openInterestHist?symbol=BTCUSDT&period=5m")
            assert answer.content == LARGE
            assert answer.headers["x-archive-rows"] == "1; 1700000100000-1700000100000"
        assert (reader.market_pages.hits, reader.market_pages.misses) == (1, 1)


async def test_the_process_that_writes_asks_for_all(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client, writer.client() as other:
        writer.market.body, writer.market.fresh_ms, writer.market.thrifty_ms = LARGE, 5_000, 5_000
        assert (await other.get(DEPTH)).content == LARGE
        writer.clock.ms = reader.clock.ms = NOW_MS + 2_000
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(client.get(DEPTH)) for _ in range(50)]
        assert {(task.result().status_code, task.result().content) for task in answers} == {(200, LARGE)}
        assert answers[0].result().headers["cache-control"] == "public, max-age=1", "3 s are left"
        assert "x-klinenode-holds-ms" not in answers[0].result().headers
        assert (len(writer.market.asked), len(reader.market.asked)) == (1, 0)
        reader.clock.ms = NOW_MS + 5_000
        assert (await client.get(DEPTH)).status_code == 200
        assert len(writer.market.asked) == 1, "by the writer's clock it holds"
        writer.clock.ms = NOW_MS + 5_000
        reader.clock.ms += 3_000
        await client.get(DEPTH)
        assert len(writer.market.asked) == 2


async def test_refusals_come_over_the_line_as_they_are(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, writer), reader.client() as client:
        writer.market.status, writer.market.body = 400, b'{"code":-1121,"msg":"Invalid symbol."}'
        answer = await client.get(DEPTH)
        assert (answer.status_code, answer.content) == (400, writer.market.body)
        writer.market.error = StandDown(NOW_MS + 90_500, "banned")
        answer = await client.get(f"{DEPTH}&limit=5")
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "91", -1001)
        assert answer.headers["x-klinenode-reason"] == "stand-down", "the writer's own reason"


async def test_without_a_writer_on_the_line_it_is_said_when_to_ask_again(tmp_path: Path) -> None:
    async with processes(tmp_path) as (reader, _):
        pass
    async with reader.client() as client:
        answer = await client.get(DEPTH)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "1", -1001)
    assert answer.headers["x-klinenode-reason"] == "writer"
