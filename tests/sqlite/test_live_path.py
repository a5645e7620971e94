"""One minute of a thousand series is written with a row and a ledger line each, in a few statements."""

import os
from pathlib import Path

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from infra.sqlite.sqlite_store import SqliteWriter
from tests.sqlite.material import T0_MS, batch, kline, minutes

SYMBOLS = [f"S{number:03}USDT" for number in range(600)]


def minute(number: int, symbols: list[str]) -> list[Batch]:
    return [batch(Series(KLINES, symbol, M1), Source.WS, minutes((number, number + 1))) for symbol in symbols]


async def changes(writer: SqliteWriter) -> int:
    return await writer._writes.run(lambda connection: connection.total_changes)


async def test_a_closed_minute_changes_one_row_and_one_line_of_each_series(writer: SqliteWriter) -> None:
    await writer.commit(minute(0, SYMBOLS))
    statements: list[str] = []
    before = await changes(writer)
    await writer._writes.run(lambda connection: connection.set_trace_callback(statements.append))
    await writer.commit(minute(1, SYMBOLS))
    await writer._writes.run(lambda connection: connection.set_trace_callback(None))
    assert await changes(writer) - before == 3 * len(SYMBOLS) + 1, "row, ledger line, change; one line of the log"
    assert [" ".join(text.split()[:3]) for text in statements] == [
        "BEGIN IMMEDIATE",
        "SELECT 1 FROM",
        "PRAGMA data_version",
        "INSERT INTO kline_1m",
        "INSERT INTO ledger",
        "INSERT INTO ledger_log",
        "SELECT max(seq) FROM",
        "INSERT INTO change",
        "DELETE FROM change",
        "COMMIT",
    ]


async def test_a_series_with_many_lines_still_changes_only_its_last_one(writer: SqliteWriter) -> None:
    islands = minutes(*((start, start + 1) for start in range(0, 600, 2)))
    await writer.commit([batch(Series(KLINES, "OLDUSDT", M1), Source.REST, islands)])
    await writer.commit(minute(600, ["OLDUSDT"]))
    before = await changes(writer)
    [committed] = await writer.commit(minute(601, ["OLDUSDT"]))
    assert await changes(writer) - before == 4, "row, ledger line, change, line of the log"
    assert len(committed.ledger.entries) == 301


async def test_closing_a_gap_joins_its_neighbours_into_one_line(writer: SqliteWriter) -> None:
    series = Series(KLINES, "OLDUSDT", M1)
    await writer.commit([batch(series, Source.REST, minutes((0, 2), (3, 5)))])
    before = await changes(writer)
    await writer.commit([batch(series, Source.REST, minutes((2, 3)))])
    assert await changes(writer) - before == 5, (
        "a row written, a line lengthened, one deleted, the change and the log noted"
    )
    assert [entry.span for entry in (await writer.ledgers())[series].entries] == list(minutes((0, 5)))


async def test_rows_that_say_the_same_again_are_not_rewritten(writer: SqliteWriter) -> None:
    series = Series(KLINES, "OLDUSDT", M1)
    await writer.commit([batch(series, Source.REST, minutes((0, 1000)))])
    before = await changes(writer)
    span = Spans([(T0_MS, T0_MS + 1000 * MINUTE_MS)])
    rows = [kline(T0_MS + number * MINUTE_MS, mark=int(number == 500)) for number in range(1000)]
    [committed] = await writer.commit([Batch(series, Source.REST, span, rows)])
    assert committed.revised == 1
    assert await changes(writer) - before == 4, "the changed row, its revision, the change and the log noted"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory in use is read from /proc")
async def test_commits_of_many_sizes_do_not_pile_up_prepared_statements(writer: SqliteWriter) -> None:
    async def commit(sizes: range) -> None:
        start = sizes[0] * 1000
        for size in sizes:
            await writer.commit([batch(Series(KLINES, "OLDUSDT", M1), Source.WS, minutes((start, start + size)))])
            start += size

    await commit(range(1000, 960, -1))
    before = resident_bytes()
    await commit(range(900, 700, -1))
    assert resident_bytes() - before < 60_000_000, "200 statements of 800 rows would take 200 MB"


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
