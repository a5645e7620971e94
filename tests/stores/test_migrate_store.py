"""migrate-store moves everything a database holds to another kind of store, whole or not at all."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Precision
from app.domain.ledger import Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.node.prepare import CannotStart, prepare
from app.node.stores import Reading, store_of
from app.operate import OperateError
from app.operate_migrate import Moved, migrate
from app.ports.contents import Contents, ContentsTable, RowOfTable
from app.ports.errors import StoreUnavailable
from app.ports.store import EVERYTHING, Disagreement, OpenReader
from app.settings import Settings
from infra.postgres.contents import PostgresContents
from infra.sqlite.contents import SqliteContents
from tests.postgres_server import execute, fresh_database, on_connection
from tests.sqlite.material import FixedClock, batch

BTC = Series(KLINES, "BTCUSDT", M1)
SERIES = (BTC, Series(KLINES, "ETHUSDT", M1), Series(KLINES, "币安人生USDT", INTERVALS["5m"]))
RATIO = Series(METRICS["topLongShortAccountRatio"], "BTCUSDT", INTERVALS["5m"])
ROWS = 1_000
LISTED = Listing("BTCUSDT", 1_000, 2_000_000_000_000, Precision(2, 3))


@pytest.fixture
async def urls(tmp_path: Path) -> list[str]:
    """Two SQLite databases and one of Postgres that do not exist or are empty; in this order."""
    return [f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/two.db", await fresh_database()]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.operate_migrate.ROWS_A_STEP", 7)
    monkeypatch.setattr("app.operate_migrate.BLOCKS_A_STEP", 2)
    monkeypatch.setattr("app.domain.block_grid.OF_MINUTES_MS", 4 * MINUTE_MS)


async def moved(source: str, target: str) -> Moved:
    return await migrate(source, target, Console(quiet=True))


async def fill(url: str) -> None:
    """Rows of all sources, some sealed, some replaced, and what a node remembers."""
    store = store_of(url)
    await store.prepare(url)
    writer = await store.writer(url, FixedClock(), lambda reason: None, lambda error: None)
    for number, series in enumerate(SERIES):
        grid = series.interval.grid
        spans = Spans([Span(0, grid.shift(0, 40)), Span(grid.shift(0, 50), grid.shift(0, 63))])
        await writer.commit([batch(series, Source.WS, spans, mark=number)])
        await writer.commit([batch(series, Source.REST, Spans([Span(0, grid.shift(0, 5))]), mark=number + 1)])
    await writer.commit([Batch(BTC, Source.ABSENT, Spans([Span(45 * MINUTE_MS, 48 * MINUTE_MS)]), [])])
    opens_ms = range(0, 20 * 300_000, 300_000)
    rows = [RATIO.kind.row(open_ms, "1.50000000", None, None) for open_ms in opens_ms]
    await writer.commit([Batch(RATIO, Source.ARCHIVE, Spans([Span(0, 20 * 300_000)]), rows)])
    next_ms: int | None = 0
    while next_ms is not None:
        next_ms = (await writer.seal(BTC, Span(next_ms, EVERYTHING.end_ms))).next_ms
    await writer.save_document("exchangeInfo", bytes(range(256)), 5)
    await writer.save_stand_down(7, "banned until 7")
    await writer.save_listings([LISTED])
    await writer.save_anchor("BTCUSDT", 3)
    await writer.save_extra_wishes({BTC: Span(1, 2)})
    await writer.save_verified(BTC, Spans([Span(0, 9 * MINUTE_MS)]), 11)
    await writer.save_disagreement(Disagreement(BTC, 0, INTERVALS["5m"], "[1]", "[2]", 12))
    await writer.close()


async def everything(url: str) -> dict[str, Any]:
    """What the store's port shows of a database."""
    reader: OpenReader = store_of(url).reader(Reading(url))
    try:
        ledgers = await reader.ledgers()
        found: dict[str, Any] = {
            "rows": {series: (await reader.read(series, EVERYTHING, ROWS)).rows for series in ledgers},
            "answers": {series: await reader.read_encoded(series, EVERYTHING, ROWS) for series in ledgers},
            "ledgers": {series: ledger.entries for series, ledger in ledgers.items()},
            "documents": await reader.document("exchangeInfo"),
            "blocks": await reader.check_blocks(0, ROWS),
        }
        found["verifications"] = {series: checks.checks for series, checks in (await reader.verifications()).items()}
        for name in ("stand_down", "anchors", "extra_wishes", "listings", "disagreements", "revisions"):
            found[name] = await getattr(reader, name)()
        return found
    finally:
        await reader.close()


async def test_there_and_back_everything_is_the_same(urls: list[str]) -> None:
    one, two, postgres = urls
    await fill(one)
    there = await moved(one, postgres)
    back = await moved(postgres, two)
    assert there == back
    assert there.blocks > 3
    expected = await everything(one)
    assert all(expected.values())
    assert await everything(postgres) == expected | {"blocks": (await everything(postgres))["blocks"]}
    assert (await everything(postgres))["blocks"].blocks == there.blocks
    assert await everything(two) == expected


async def test_a_node_writes_on_where_the_other_stopped(urls: list[str]) -> None:
    """Numbers that the database gives are behind those that were moved."""
    one, _, postgres = urls
    await fill(one)
    await moved(one, postgres)
    writer = await store_of(postgres).writer(postgres, FixedClock(), lambda reason: None, lambda error: None)
    before = await writer.revisions()
    await writer.commit([batch(SERIES[1], Source.REST, Spans([Span(0, 30 * MINUTE_MS)]), mark=9)])
    assert (await writer.revisions())[SERIES[1]] > before[SERIES[1]]
    assert (await writer.seal(SERIES[1], EVERYTHING)).rows
    await writer.close()


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("kind", [PostgresContents, SqliteContents])
async def test_wherever_it_is_stopped_it_goes_on_from_there(
    urls: list[str], kind: type[PostgresContents | SqliteContents], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = (urls[0], urls[2]) if kind is PostgresContents else (urls[0], urls[1])
    await fill(source)
    chance, added = random.Random(3), 0
    add = kind.add

    async def cut_now_and_then(
        self: Any,
        table: ContentsTable,
        rows: Sequence[RowOfTable],
    ) -> None:
        nonlocal added
        if chance.random() < 0.3:
            raise Cut
        await add(self, table, rows)
        if chance.random() < 0.3:
            raise Cut
        added += len(rows)

    monkeypatch.setattr(kind, "add", cut_now_and_then)
    cuts = 0
    while True:
        try:
            done = await moved(source, target)
            break
        except* Cut:
            cuts += 1
            with pytest.raises(CannotStart, match="migrate-store"):
                await prepare(Settings(_env_file=None, db_url=target))
    assert cuts > 3
    assert added < done.rows, "steps that were written before a cut are not written again"
    assert (await everything(target))["ledgers"] == (await everything(source))["ledgers"]
    await prepare(Settings(_env_file=None, db_url=target))


@pytest.mark.parametrize("kind", [PostgresContents, SqliteContents])
async def test_stopped_as_soon_as_there_are_tables_no_node_starts_on_the_target(
    urls: list[str], kind: type[PostgresContents | SqliteContents], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = (urls[0], urls[2]) if kind is PostgresContents else (urls[0], urls[1])
    await fill(source)
    store, opened = store_of(target), store_of(target).contents

    async def cut_at_the_target(url: str) -> Contents:
        if url == target:
            raise Cut
        return await opened(url)

    name = "app.node.postgres_stores.POSTGRES" if kind is PostgresContents else "app.node.stores._SQLITE"
    with monkeypatch.context() as patched:
        patched.setattr(name, store._replace(contents=cut_at_the_target))
        with pytest.raises(Cut):
            await moved(source, target)
    with pytest.raises(CannotStart, match="migrate-store"):
        await prepare(Settings(_env_file=None, db_url=target))
    await moved(source, target)
    await prepare(Settings(_env_file=None, db_url=target))


async def test_a_refused_move_leaves_a_target_on_which_a_node_starts(urls: list[str]) -> None:
    one, two, _ = urls
    await store_of(one).prepare(one)
    with pytest.raises(OperateError, match="there is nothing to move"):
        await moved(one, two)
    await prepare(Settings(_env_file=None, db_url=two))


async def test_what_somebody_else_has_written_is_found(urls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _, postgres = urls
    await fill(one)
    add = PostgresContents.add

    async def and_change(self: PostgresContents, table: ContentsTable, rows: Sequence[RowOfTable]) -> None:
        await add(self, table, rows)
        if table.name == "kline_5m":
            await execute(postgres, "UPDATE kline_5m SET close = '0' WHERE open_time = 0")

    monkeypatch.setattr(PostgresContents, "add", and_change)
    with pytest.raises(OperateError, match="kline_5m differs"):
        await moved(one, postgres)


async def test_a_database_that_is_not_empty_is_left_alone(urls: list[str]) -> None:
    one, two, postgres = urls
    await fill(one)
    await fill(two)
    before = await everything(two)
    with pytest.raises(OperateError, match="not empty"):
        await moved(one, two)
    assert await everything(two) == before
    with pytest.raises(OperateError, match="there is nothing to move"):
        await moved(postgres, f"{two}.new")
    with pytest.raises(OperateError, match="same database"):
        await moved(one, one)


async def test_a_part_of_one_database_is_not_finished_with_another(urls: list[str]) -> None:
    one, two, postgres = urls
    await fill(one)
    await fill(two)
    await store_of(postgres).prepare(postgres)
    await execute(
        postgres,
        "CREATE TABLE migrate_store (source text NOT NULL)",
        f"INSERT INTO migrate_store VALUES ('{two}')",
    )
    with pytest.raises(OperateError, match="finish that first"):
        await moved(one, postgres)
    with pytest.raises(OperateError, match="unfinished target"):
        await moved(postgres, f"{two}.new")


@pytest.fixture
async def held(urls: list[str]) -> AsyncIterator[list[str]]:
    """The lease of the first SQLite database and of the Postgres one, as a node holds them."""
    await fill(urls[0])
    await store_of(urls[2]).prepare(urls[2])
    leases = [store_of(url).lease(url) for url in (urls[0], urls[2])]
    for lease in leases:
        assert await lease.try_acquire("http://127.0.0.1:1")
    yield urls
    for lease in leases:
        await lease.release()


async def test_no_node_may_run_on_either(held: list[str]) -> None:
    one, two, postgres = held
    for source, target in ((one, two), (postgres, two)):
        with pytest.raises(OperateError, match="stop it first"):
            await moved(source, target)


async def test_hypertables_need_a_server(urls: list[str]) -> None:
    with pytest.raises(OperateError, match="--timescale needs a Postgres database as target"):
        await migrate(urls[0], urls[1], Console(quiet=True), timescale=True)


async def test_a_server_that_is_away_is_named_and_nothing_is_lost(urls: list[str]) -> None:
    await fill(urls[0])
    with pytest.raises((OperateError, StoreUnavailable)) as raised:
        await moved(urls[0], "postgresql://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)


async def test_tables_are_the_same_in_both_kinds_of_store(urls: list[str]) -> None:
    """What migrate-store asserts, also for tables of kinds to come."""
    shapes = []
    for url in urls[1:]:
        await store_of(url).prepare(url)
        contents = await store_of(url).contents(url)
        shapes.append({(table.name, frozenset(table.columns), table.key) for table in await contents.tables()})
        await contents.close()
    assert shapes[0] == shapes[1]
    assert await on_connection(urls[2], lambda connection: connection.fetchval("SELECT 1")) == 1
