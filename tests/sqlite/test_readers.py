"""Readers see complete transactions only, and never wait for the writer."""

import asyncio
from contextlib import closing
from pathlib import Path

from app.domain.interval import M1
from app.domain.ledger import Source
from app.domain.series import Series
from app.kinds.klines import KLINES
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import BTC_1M, batch, everything, klines, minutes


async def test_a_read_is_answered_while_a_write_transaction_is_open(
    writer: SqliteWriter, reader: SqliteReader, db_file: Path
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 100)))])
    with closing(sqlite3.connect(db_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM kline_1m")
        snapshot = await reader.read(BTC_1M, everything(), 1500)
        assert snapshot.rows == klines(minutes((0, 100)), M1.grid)
        assert snapshot.ledger.held == minutes((0, 100))
        other.execute("ROLLBACK")


async def test_rows_and_ledger_agree_in_every_snapshot_taken_during_writes(
    writer: SqliteWriter, reader: SqliteReader
) -> None:
    pair = (BTC_1M, Series(KLINES, "ETHUSDT", M1))
    finished = asyncio.Event()

    async def write() -> None:
        for start in range(0, 6000, 200):
            await writer.commit([batch(series, Source.WS, minutes((start, start + 200))) for series in pair])
        finished.set()

    async def watch(series: Series) -> int:
        seen = set()
        while not finished.is_set():
            snapshot = await reader.read(series, everything(), 10_000)
            assert snapshot.ledger.held == minutes((0, len(snapshot.rows)))
            assert len(snapshot.rows) % 200 == 0
            seen.add(len(snapshot.rows))
        return len(seen)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        watchers = [group.create_task(watch(series)) for series in pair]
    assert all(watcher.result() > 1 for watcher in watchers)
    ledgers = await reader.ledgers()
    assert all(ledgers[series].held == minutes((0, 6000)) for series in pair)


async def test_more_reads_at_once_than_connections_are_all_answered(writer: SqliteWriter, reader: SqliteReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 50)))])
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reader.read(BTC_1M, everything(), 1 + number % 50)) for number in range(100)]
    assert [len(task.result().rows) for task in tasks] == [1 + number % 50 for number in range(100)]


async def test_a_reader_cannot_write(writer: SqliteWriter, reader: SqliteReader) -> None:
    def work(connection: sqlite3.Connection) -> str:
        try:
            connection.execute("DELETE FROM ledger")
        except sqlite3.OperationalError as error:
            return str(error)
        return "written"

    assert await reader._reads.run(work) == "attempt to write a readonly database"
