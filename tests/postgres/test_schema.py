"""What migrations make: the tables of every kind, exact texts, partitions, and views for programs that calculate."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory

import migrations.postgres
from app.binance.funding_rows import FundingRow
from app.domain.block_grid import is_sealable
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.funding import FUNDING
from app.kinds.klines import KLINES
from app.kinds.price_klines import PREMIUM
from app.kinds.registry import KINDS
from app.ports.errors import SchemaTooNew, StoreUnavailable
from infra.postgres.migrate import HEAD, upgrade
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.postgres.statements import arrays
from infra.stores.row_tables import former_table, revision_table, row_table
from tests.postgres_server import execute, fresh_database, on_connection, server_url
from tests.sqlite.material import BTC_1M, NOW_MS, T0_MS, FixedClock, batch, everything, kline, minutes


async def fetch(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    return list(map(tuple, await on_connection(url, lambda connection: connection.fetch(statement, *values))))


async def columns(url: str) -> dict[str, dict[str, tuple[str, bool]]]:
    """By table: the type of each column, and whether it may be NULL."""
    select = (
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'public' ORDER BY ordinal_position"
    )
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for table, column, type_, nullable in await fetch(url, select):
        found.setdefault(table, {})[column] = (type_, nullable == "YES")
    return found


async def test_every_kind_has_its_tables(url: str) -> None:
    found = await columns(url)
    partitioned = {name for (name,) in await fetch(url, "SELECT partrelid::regclass::text FROM pg_partitioned_table")}
    expected = set()
    for kind in KINDS.values():
        own = {name: ("bigint" if type_ is int else "text", type_ == str | None) for name, type_ in kind.columns}
        for interval in kind.intervals or INTERVALS.values():
            table = row_table(kind, interval)
            assert found[table] == {"symbol": ("text", False), **own}
            if is_sealable(kind, interval):
                expected.add(table)
        for table in (revision_table(kind), former_table(kind)):
            assert own.items() <= found[table].items(), table
    assert partitioned == expected


async def test_statements_know_the_type_of_every_column(url: str) -> None:
    views = {name for (name,) in await fetch(url, "SELECT viewname FROM pg_views WHERE schemaname = 'public'")}
    for table, names in (await columns(url)).items():
        if table in views | {"identity", "alembic_version"}:
            continue
        for name, (type_, _) in names.items():
            bound = {"integer": "bigint"}.get(type_, type_)
            assert arrays((name,)) == f"unnest($1::{bound}[])", f"{table}.{name}"


async def test_texts_compare_byte_by_byte(url: str) -> None:
    select = (
        "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND atttypid = 'text'::regtype "
        "AND attcollation <> '\"C\"'::regcollation"
    )
    assert await fetch(url, select) == []


def test_the_newest_revision_is_the_one_that_is_looked_for() -> None:
    assert ScriptDirectory(str(Path(migrations.postgres.__path__[0]))).get_current_head() == HEAD


async def test_a_database_is_migrated_once_whoever_comes(url: str) -> None:
    fresh = await fresh_database()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(upgrade(fresh))
    made = await columns(fresh)
    await (await PostgresWriter.open(fresh, FixedClock())).close()
    assert made.items() <= (await columns(fresh)).items() == (await columns(url)).items()


async def test_a_database_of_a_newer_version_or_another_program_is_left_alone(url: str) -> None:
    await execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="schema revision 9999, which this version of klinenode does not know"):
        await PostgresWriter.open(url, FixedClock())
    other = await fresh_database()
    await execute(other, "CREATE TABLE ledger (amount real)")
    before = await columns(other)
    with pytest.raises(StoreUnavailable, match="belongs to another program; point DB_URL at another database"):
        await PostgresWriter.open(other, FixedClock())
    assert await columns(other) == before, "a failed migration changes nothing"


async def test_a_database_must_be_able_to_hold_every_symbol() -> None:
    name = f"latin_{os.getpid()}"
    await execute(
        server_url(), f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    with pytest.raises(StoreUnavailable, match="has the encoding LATIN1, in which not every symbol can be written"):
        await upgrade(server_url(name))
    await execute(server_url(), f"DROP DATABASE {name}")


EXACT = ("0", "-0.00000000", "0.00000000", "1.5", "1.50", "60000", "0.00000001", "9" * 20 + "." + "1" * 19)


async def test_texts_come_back_as_they_came(writer: PostgresWriter, reader: PostgresReader) -> None:
    series = Series(PREMIUM, "BTCUSDT", M1)
    given = [
        Kline(T0_MS + at * MINUTE_MS, text, text, text, text, "0", "0", 1 << 53, "0", "0.000")
        for at, text in enumerate(EXACT)
    ]
    await writer.commit([Batch(series, Source.REST, minutes((0, len(EXACT))), given)])
    assert (await reader.read(series, everything(), 99)).rows == given
    printed = b",".join(PREMIUM.encode(row, row.open_ms + MINUTE_MS - 1) for row in given)
    assert await reader.read_encoded(series, everything(), 99) == (len(given), b"[" + printed + b"]")


async def test_a_stand_down_is_stored_whatever_the_exchange_wrote(
    writer: PostgresWriter, reader: PostgresReader
) -> None:
    await writer.save_stand_down(NOW_MS, "HTTP 418: (\0 \ud800 币安)")
    assert await reader.stand_down() == (NOW_MS, "HTTP 418: (? ? 币安)")


async def test_floats_are_refused(writer: PostgresWriter) -> None:
    wrong: Any = 1.5
    row = kline(T0_MS)._replace(close=wrong)
    with pytest.raises(asyncpg.DataError, match="expected str, got float"):
        await writer.commit([Batch(BTC_1M, Source.REST, minutes((0, 1)), [row])])
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 1)))])
    assert committed.ledger.held == minutes((0, 1)), "nothing is left of the refused one"


@pytest.mark.parametrize("number", [1, 5, 300, 3_000])
async def test_what_is_unknown_and_what_is_empty_stay_apart(
    writer: PostgresWriter, reader: PostgresReader, number: int
) -> None:
    """However many rows there are: one by one, as arrays, as lines or by COPY."""
    series, span = Series(FUNDING, "BTCUSDT", INTERVALS["1h"]), Span(0, number * HOUR_MS)
    for price in ("", None, "1.50"):
        rows = [FundingRow(at * HOUR_MS, "-0.00000000", price, None) for at in range(number)]
        rows[-1] = rows[-1]._replace(mark_price="0", rate_type="\\N\t")
        await writer.commit([Batch(series, Source.REST, Spans([span]), rows)])
        assert (await reader.read(series, span, number)).rows == rows


@pytest.mark.parametrize("number", [5, 300, 3_000])
async def test_a_text_of_two_lines_does_not_shift_others(
    writer: PostgresWriter, reader: PostgresReader, number: int
) -> None:
    series, span = Series(FUNDING, "BTCUSDT", INTERVALS["1h"]), Span(0, number * HOUR_MS)
    rows = [FundingRow(at * HOUR_MS, f"0.{at}", "1", "Regular") for at in range(number)]
    rows[1] = rows[1]._replace(rate_type="Regular\nRegular")
    with suppress(asyncpg.NotNullViolationError):
        await writer.commit([Batch(series, Source.REST, Spans([span]), rows)])
    assert (await reader.read(series, span, number)).rows in ([], rows)


async def test_programs_that_calculate_have_a_view_of_numbers(url: str, writer: PostgresWriter) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 3)))])
    assert (await columns(url))["kline_1m_numeric"]["close"] == ("numeric", True)
    select = "SELECT open_time, close, trades FROM kline_1m_numeric WHERE symbol = 'BTCUSDT' ORDER BY open_time"
    expected = [kline(T0_MS + at * MINUTE_MS) for at in range(3)]
    assert await fetch(url, select) == [(row.open_ms, Decimal(row.close), row.trades) for row in expected]


def start_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1000


async def partitions(url: str, table: str = "kline_1m") -> list[str]:
    select = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass ORDER BY 1"
    return [name for (name,) in await fetch(url, select, table)]


async def test_partitions_of_months_are_made_ahead_of_time(url: str, writer: PostgresWriter) -> None:
    assert datetime.fromtimestamp(NOW_MS / 1000, UTC).strftime("%Y%m") == "202701"
    months = ["kline_1m_202701", "kline_1m_202702", "kline_1m_202703"]
    assert await partitions(url) == [*months, "kline_1m_past"]
    later = Span(start_ms(2027, 2), start_ms(2027, 2) + MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([later]))])
    assert await partitions(url) == [*months, "kline_1m_past"], "March is there"
    later = Span(start_ms(2027, 3), start_ms(2027, 3) + MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([later]))])
    assert await partitions(url) == [*months, "kline_1m_202704", "kline_1m_202705", "kline_1m_past"]
    far = Span(start_ms(2027, 9), start_ms(2027, 9) + MINUTE_MS)
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 1)) | Spans([far]))])
    expected = [f"kline_1d_2027{month:02}" for month in range(1, 12)]
    assert await partitions(url, "kline_1d") == [*expected, "kline_1d_past"]
    places = [name for (name,) in await fetch(url, "SELECT tableoid::regclass::text FROM kline_1m ORDER BY open_time")]
    assert places == ["kline_1m_past", *(f"kline_1m_2027{month}" for month in ("02", "03", "09"))]
    newer = await PostgresWriter.open(url, FixedClock())
    assert len(await partitions(url)) == 12
    await newer.close()


async def test_rows_of_a_clock_that_is_wrong_make_no_thousand_partitions(url: str, writer: PostgresWriter) -> None:
    far = Span(start_ms(2100, 1), start_ms(2100, 1) + MINUTE_MS)
    with pytest.raises(StoreUnavailable, match="rows open in 210001, years after those that the database holds"):
        await writer.commit([batch(BTC_1M, Source.REST, Spans([far]))])
    assert len(await partitions(url)) == 4


async def test_a_read_looks_into_the_partition_of_its_window(url: str, writer: PostgresWriter) -> None:
    now = M1.grid.floor(NOW_MS)
    await writer.commit([batch(BTC_1M, Source.REST, Spans([Span(now - DAY_MS // 8, now)]))])
    explain = (
        "EXPLAIN SELECT * FROM kline_1m WHERE symbol = 'BTCUSDT' "
        f"AND open_time >= {now - DAY_MS} AND open_time < {now} ORDER BY open_time LIMIT 5"
    )
    plan = "\n".join(line for (line,) in await fetch(url, explain))
    assert "kline_1m_202701" in plan
    assert "past" not in plan
    assert "Sort" not in plan, "the key gives the order"


async def test_a_minute_of_600_symbols_is_a_few_statements(writer: PostgresWriter, reader: PostgresReader) -> None:
    series = [Series(KLINES, f"S{number}USDT", M1) for number in range(600)]
    statements: list[str] = []

    async def commit(minute: int) -> None:
        await writer.commit([batch(each, Source.WS, minutes((minute, minute + 1))) for each in series])

    await commit(0)
    [connection] = writer._writes._idle
    connection.add_query_logger(lambda record: statements.append(record.query))
    await commit(1)
    assert len(statements) == 6, statements
    assert len((await reader.read(series[599], everything(), 9)).rows) == 2


async def test_short_spans_of_many_series_are_found_by_key_in_a_table_that_is_not_analysed(
    url: str, writer: PostgresWriter, reader: PostgresReader
) -> None:
    values = ", ".join("'1.00'" if type_ is str else "1" for _, type_ in KLINES.columns[1:])
    end = M1.grid.floor(NOW_MS)
    times = f"{end}::bigint - minute * {MINUTE_MS}::bigint"
    every = "generate_series(1, 300) AS number, generate_series(1, 200) AS minute"
    await execute(url, f"INSERT INTO kline_1m SELECT 'S' || number || 'USDT', {times}, {values} FROM {every}")
    seen: list[tuple[str, tuple[Any, ...]]] = []

    async def explain(connection: asyncpg.Connection) -> str:
        [(query, values)] = [each for each in seen if "kline_1m" in each[0]]
        return "\n".join(line for (line,) in await connection.fetch(f"EXPLAIN {query}", *values))

    await reader.ledgers()
    [connection] = reader._reads._idle
    connection.add_query_logger(lambda record: seen.append((record.query, record.args)))
    wanted = {Series(KLINES, f"S{number}USDT", M1): Span(end - 2 * MINUTE_MS, end) for number in range(1, 301)}
    assert sum(map(len, (await reader.read_spans(wanted)).values())) == 600
    plan = await reader._reads.run(explain)
    assert "Nested Loop" in plan, plan
    assert "Seq Scan on kline_1m_202701" not in plan, plan
