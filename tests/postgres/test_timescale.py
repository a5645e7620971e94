"""TIMESCALE on a real TimescaleDB: what hypertables are made of, where rows are, and when it is refused.

What a store does is in the contract suite (tests/stores), which runs on hypertables, too.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.domain import block_grid
from app.domain.block_grid import is_sealable
from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from app.kinds.registry import KINDS
from app.node.prepare import CannotStart, prepare
from app.node.stores import Reading, store_of
from app.operate import OperateError
from app.operate_migrate import migrate
from app.ports.errors import StoreUnusable
from app.ports.store import EVERYTHING
from app.settings import load
from infra.postgres import hypertables
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.postgres.row_reads import COPIED_ROWS_MIN
from infra.stores.row_tables import row_table
from tests.postgres_server import fresh_database, on_connection
from tests.sqlite.material import BTC_1M, NOW_MS, FixedClock, batch, klines
from tests.timescale_server import fresh_schema

CHUNK_MS = 30 * DAY_MS
BORDER_MS = 600 * CHUNK_MS  # 2019-04-14, in the middle of a month


@pytest.fixture
async def url() -> str:
    """The URL of a schema without tables."""
    return await fresh_schema()


@pytest.fixture
async def writer(url: str) -> AsyncIterator[PostgresWriter]:
    store = await PostgresWriter.open(url, FixedClock(), timescale=True)
    yield store
    await store.close()


async def fetch(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    return list(map(tuple, await on_connection(url, lambda connection: connection.fetch(statement, *values))))


async def chunks(url: str, table: str = "kline_1m") -> dict[int, int]:
    """By the start of each chunk of `table` in ms: how many rows it has."""
    select = (
        "SELECT format('%I.%I', chunk_schema, chunk_name), range_start_integer, range_end_integer "
        "FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND hypertable_name = $1 "
        "ORDER BY range_start_integer"
    )
    found = {}
    for chunk, start_ms, end_ms in await fetch(url, select, table):
        assert end_ms - start_ms == CHUNK_MS
        [(found[start_ms],)] = await fetch(url, f"SELECT count(*) FROM {chunk}")
    return found


async def test_every_table_that_is_sealed_is_a_hypertable_of_thirty_days(url: str, writer: PostgresWriter) -> None:
    select = (
        "SELECT hypertable_name, column_name, integer_interval, integer_now_func, num_dimensions "
        "FROM timescaledb_information.dimensions JOIN timescaledb_information.hypertables "
        "USING (hypertable_schema, hypertable_name) WHERE hypertable_schema = current_schema()"
    )
    expected = {
        (row_table(kind, interval), "open_time", CHUNK_MS, "klinenode_now_ms", 1)
        for kind in KINDS.values()
        for interval in kind.intervals or INTERVALS.values()
        if is_sealable(kind, interval)
    }
    assert set(await fetch(url, select)) == expected
    assert len(expected) == 17
    of_schema = "WHERE relnamespace = current_schema()::regnamespace"
    assert await fetch(url, f"SELECT 1 FROM pg_class {of_schema} AND (relkind = 'p' OR relispartition)") == []
    keys = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'kline_1m'::regclass"
    assert await fetch(url, keys) == [("kline_1m_pkey",)], "an index of open times alone is used by nothing here"


async def test_policies_are_told_the_time_in_milliseconds(url: str, writer: PostgresWriter) -> None:
    select = "SELECT klinenode_now_ms() - (extract(epoch FROM now()) * 1000)::bigint"
    assert await fetch(url, select) == [(0,)]


async def test_rows_are_in_the_chunks_of_their_open_times(url: str, writer: PostgresWriter) -> None:
    span = Span(BORDER_MS - 3 * MINUTE_MS, BORDER_MS + 5 * MINUTE_MS)
    newest = Span(M1.grid.floor(NOW_MS), M1.grid.floor(NOW_MS) + MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([span, newest]))])
    newest_chunk_ms = NOW_MS // CHUNK_MS * CHUNK_MS
    assert await chunks(url) == {BORDER_MS - CHUNK_MS: 3, BORDER_MS: 5, newest_chunk_ms: 1}
    assert await chunks(url, "kline_3m") == {}


@pytest.mark.parametrize("rows", [8, COPIED_ROWS_MIN + 2])
async def test_a_read_goes_over_the_border_of_two_chunks_byte_for_byte(
    url: str, writer: PostgresWriter, reader: PostgresReader, rows: int
) -> None:
    """Few rows come as arrays, many by COPY, and both replace what is there, row by row."""
    window = Span(BORDER_MS - rows // 2 * MINUTE_MS, BORDER_MS + rows // 2 * MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.WS, Spans([window]), mark=1)])
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, Spans([window]), mark=2)])
    assert committed.revised == rows
    expected = klines([window], M1.grid, mark=2)
    assert (await reader.read(BTC_1M, window, rows)).rows == expected
    printed = [KLINES.encode(row, row.open_ms + MINUTE_MS - 1) for row in expected]
    assert await reader.read_encoded(BTC_1M, window, rows) == (rows, b"[" + b",".join(printed) + b"]")
    assert await reader.read_encoded(BTC_1M, window, 3, newest=True) == (3, b"[" + b",".join(printed[-3:]) + b"]")
    inner = Span(BORDER_MS - MINUTE_MS, BORDER_MS + 2 * MINUTE_MS)
    assert (await reader.read_spans({BTC_1M: inner}))[BTC_1M] == klines([inner], M1.grid, mark=2)
    assert sum((await chunks(url)).values()) == rows


async def test_sealing_empties_chunks_and_unsealing_fills_them(
    url: str, writer: PostgresWriter, reader: PostgresReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_grid, "OF_MINUTES_MS", 4 * MINUTE_MS)
    window = Span(BORDER_MS - 8 * MINUTE_MS, BORDER_MS + 8 * MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([window]))])
    expected = await reader.read_encoded(BTC_1M, window, 16)
    for left in (4, 0):
        sealed = await writer.seal(BTC_1M, window)
        assert (sealed.rows, sealed.next_ms) == (4, BORDER_MS - left * MINUTE_MS)
        assert await chunks(url) == {BORDER_MS - CHUNK_MS: left, BORDER_MS: 8}
        assert await reader.read_encoded(BTC_1M, window, 16) == expected
    assert (await writer.unseal(BTC_1M, window)).rows == 4
    assert await chunks(url) == {BORDER_MS - CHUNK_MS: 4, BORDER_MS: 8}
    assert await reader.read_encoded(BTC_1M, window, 16) == expected


async def test_a_read_looks_into_the_chunk_of_its_window(url: str, writer: PostgresWriter) -> None:
    for at in range(-3, 4):
        start_ms = BORDER_MS + at * CHUNK_MS
        await writer.commit([batch(BTC_1M, Source.REST, Spans([Span(start_ms, start_ms + MINUTE_MS)]))])
    explain = (
        "EXPLAIN SELECT * FROM kline_1m WHERE symbol = 'BTCUSDT' "
        f"AND open_time >= {BORDER_MS} AND open_time < {BORDER_MS + DAY_MS} ORDER BY open_time LIMIT 5"
    )
    plan = "\n".join(line for (line,) in await fetch(url, explain))
    assert plan.count("_chunk") > 0
    assert plan.count(" on _hyper") == 1, plan
    assert "Sort" not in plan, "the key gives the order"


async def test_weeks_of_time_buckets_begin_on_mondays(url: str, writer: PostgresWriter) -> None:
    """With the offset that docs/operations.md gives."""
    days, weeks = Series(KLINES, "BTCUSDT", INTERVALS["1d"]), INTERVALS["1w"].grid
    span = Span(BORDER_MS, BORDER_MS + 40 * DAY_MS)
    await writer.commit([batch(days, Source.REST, Spans([span]))])
    select = "SELECT open_time, public.time_bucket(604800000, open_time, 345600000) FROM kline_1d ORDER BY open_time"
    assert await fetch(url, select) == [(open_ms, weeks.floor(open_ms)) for open_ms in range(*span, DAY_MS)]


async def test_rows_of_any_year_find_a_chunk(url: str, writer: PostgresWriter) -> None:
    """No partition is made ahead of time, so none can be missing."""
    far = Span(2_100 * CHUNK_MS, 2_100 * CHUNK_MS + MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([far]))])
    assert await chunks(url) == {far.start_ms: 1}


async def test_a_database_with_hypertables_works_the_same_without_the_setting(url: str, writer: PostgresWriter) -> None:
    await writer.close()
    other = await PostgresWriter.open(url, FixedClock())
    span = Span(BORDER_MS, BORDER_MS + MINUTE_MS)
    [committed] = await other.commit([batch(BTC_1M, Source.REST, Spans([span]))])
    await other.close()
    assert committed.ledger.held == Spans([span])
    assert await chunks(url) == {BORDER_MS: 1}
    select = "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()"
    assert await fetch(url, select) == [(17,)]


async def test_a_database_made_without_it_is_not_converted(url: str) -> None:
    await (await PostgresWriter.open(url, FixedClock())).close()
    partitioned = "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'p'"
    assert await fetch(url, partitioned) == [(17,)]
    with pytest.raises(StoreUnusable, match="made without TIMESCALE and is not converted: leave TIMESCALE out, or"):
        await PostgresWriter.open(url, FixedClock(), timescale=True)
    assert await fetch(url, partitioned) == [(17,)]
    await (await PostgresWriter.open(url, FixedClock())).close()


async def test_an_old_extension_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypertables, "VERSION_MIN", (99, 1))
    with pytest.raises(StoreUnusable, match=r"has TimescaleDB 2\.\d+; klinenode needs 99\.1 or newer"):
        await PostgresWriter.open(url, FixedClock(), timescale=True)
    assert await fetch(url, "SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace") == []


async def test_a_server_without_the_extension_is_named_before_anything_is_made() -> None:
    plain = await fresh_database()
    with pytest.raises(StoreUnusable, match="has no TimescaleDB, which TIMESCALE=true asks for: install it there"):
        await PostgresWriter.open(plain, FixedClock(), timescale=True)
    assert await fetch(plain, "SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


async def test_a_node_does_not_start_with_a_setting_that_its_server_cannot_fulfil(tmp_path: Path) -> None:
    given = {"db_url": await fresh_database(), "timescale": "true", "runtime_dir": str(tmp_path)}
    settings = load(given, env_file=None)
    with pytest.raises(CannotStart, match="has no TimescaleDB"):
        await prepare(settings)


async def test_a_database_of_partitions_moves_into_hypertables(url: str) -> None:
    """As the refusal says."""
    source = await fresh_database()
    store = await PostgresWriter.open(source, FixedClock())
    window = Span(BORDER_MS - 5 * MINUTE_MS, BORDER_MS + 5 * MINUTE_MS)
    hours = Series(KLINES, "ETHUSDT", INTERVALS["1h"])
    span = Span(BORDER_MS, BORDER_MS + DAY_MS)
    await store.commit([batch(BTC_1M, Source.REST, Spans([window])), batch(hours, Source.ARCHIVE, Spans([span]))])
    await store.close()
    moved = await migrate(source, url, Console(quiet=True), timescale=True)
    assert moved.rows > 34
    assert await chunks(url) == {BORDER_MS - CHUNK_MS: 5, BORDER_MS: 5}
    assert await chunks(url, "kline_1h") == {BORDER_MS: 24}
    answers = []
    for each in (source, url):
        reader = store_of(each).reader(Reading(each))
        answers.append([await reader.read_encoded(series, EVERYTHING, 99) for series in (BTC_1M, hours)])
        await reader.close()
    assert answers[0] == answers[1]


async def test_nothing_moves_into_hypertables_that_cannot_be_had() -> None:
    source, target = await fresh_database(), await fresh_database()
    await store_of(source).prepare(source)
    writer = await store_of(source).writer(source, FixedClock(), lambda reason: None, lambda error: None)
    await writer.save_document("exchangeInfo", b"{}", 5)
    await writer.close()
    with pytest.raises(OperateError, match="has no TimescaleDB"):
        await migrate(source, target, Console(quiet=True), timescale=True)


async def test_two_nodes_that_start_at_once_make_the_tables_once(url: str) -> None:
    async def start() -> None:
        await store_of(url, timescale=True).prepare(url)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(start())
    select = "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()"
    assert await fetch(url, select) == [(17,)]
