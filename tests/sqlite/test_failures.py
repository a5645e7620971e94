"""If the database cannot be written, nothing is committed, the message says what to do, and it recovers."""

import asyncio
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.domain.interval import M1
from app.domain.ledger import Source
from app.ports.errors import StoreUnavailable
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import BTC_1M, FixedClock, batch, everything, klines, minutes

BEFORE = minutes((0, 10))
LATER = minutes((10, 5000))

LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(file: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.kill()


@contextmanager
def files_grow_no_further_than(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def everything_held(reader: SqliteReader) -> int:
    return len((await reader.read(BTC_1M, everything(), 9999)).rows)


async def test_a_database_that_is_deleted_under_the_writer_takes_nothing_more(
    writer: SqliteWriter, reader: SqliteReader, db_file: Path
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    assert await everything_held(reader) == 10
    assert not writer.is_replaced()
    remove(db_file)
    assert writer.is_replaced()
    with pytest.raises(StoreUnavailable, match="was deleted or replaced while the node had it open"):
        await writer.commit([batch(BTC_1M, Source.REST, LATER)])
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await everything_held(reader)
    assert list(db_file.parent.iterdir()) == [], "nobody but a new writer makes one"


async def test_a_database_that_is_replaced_is_read_as_it_is_and_written_by_a_new_writer_only(
    writer: SqliteWriter, reader: SqliteReader, url: str, db_file: Path, tmp_path: Path
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    assert await everything_held(reader) == 10
    other = await SqliteWriter.open(f"sqlite:///{tmp_path}/other.db", FixedClock())
    await other.commit([batch(BTC_1M, Source.REST, minutes((0, 3)))])
    await other.close()
    remove(db_file)
    (tmp_path / "other.db").rename(db_file)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        await writer.save_stand_down(1, "418")
    assert await everything_held(reader) == 3
    again = await SqliteWriter.open(url, FixedClock())
    await again.commit([batch(BTC_1M, Source.REST, LATER)])
    assert await everything_held(reader) == 3 + 4990
    await again.close()


async def test_reads_under_way_when_the_file_is_replaced_end_and_leave_no_connection(
    writer: SqliteWriter, reader: SqliteReader, db_file: Path
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> object:
        begun.set()
        go_on.wait(10)
        return connection.execute("SELECT count(*) FROM kline_1m").fetchone()[0]

    async with asyncio.TaskGroup() as tasks:
        old = tasks.create_task(reader._reads.run(slow))
        await asyncio.to_thread(begun.wait, 10)
        remove(db_file)
        with pytest.raises(StoreUnavailable, match="does not exist"):
            await everything_held(reader)
        go_on.set()
    assert old.result() == 10
    await reader.close()
    await writer.close()
    await asyncio.to_thread(connections_end)
    assert open_files(db_file) == []


def connections_end() -> None:
    """Wait until the threads of abandoned connections have ended: each closes its files at its end."""
    for thread in threading.enumerate():
        if "connection" in thread.name:
            thread.join(10)


def open_files(db_file: Path) -> list[str]:
    names = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [name for name in names if name.startswith(str(db_file))]


def remove(db_file: Path) -> None:
    for path in db_file.parent.glob(f"{db_file.name}*"):
        if not path.name.endswith(".lock"):
            path.unlink()


async def test_every_write_is_reported_good_or_bad(url: str, db_file: Path) -> None:
    told: list[str | None] = []
    writer = await SqliteWriter.open(url, FixedClock(), busy_timeout_ms=50, report=told.append)
    with locked_by_another_process(db_file), pytest.raises(StoreUnavailable):
        await writer.save_anchor("BTCUSDT", 1)
    await writer.save_anchor("BTCUSDT", 1)
    assert [reason and "locked by another process" in reason for reason in told] == [None, True, None]
    await writer.close()


def put_text_in_place_of(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"symbol,open_time\n" * 500)


def damage(file: Path) -> None:
    """Overwrite every page but the first with garbage."""
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))


async def fails_and_writes_nothing(writer: SqliteWriter, reader: SqliteReader, reason: str) -> None:
    with pytest.raises(StoreUnavailable, match=reason):
        await writer.commit([batch(BTC_1M, Source.REST, LATER)])
    snapshot = await reader.read(BTC_1M, everything(), 9999)
    assert snapshot.rows == klines(BEFORE, M1.grid)
    assert snapshot.ledger.held == BEFORE


async def works_again(writer: SqliteWriter, reader: SqliteReader) -> None:
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, LATER)])
    assert committed.ledger.held == BEFORE | LATER
    snapshot = await reader.read(BTC_1M, everything(), 9999)
    assert snapshot.rows == klines(BEFORE | LATER, M1.grid)
    assert snapshot.ledger.held == BEFORE | LATER


async def test_a_lock_of_another_process(writer: SqliteWriter, reader: SqliteReader, db_file: Path) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    with locked_by_another_process(db_file):
        await fails_and_writes_nothing(writer, reader, "locked by another process; wait, or end the program")
        with pytest.raises(StoreUnavailable, match="locked"):
            await writer.save_stand_down(1, "418")
    await works_again(writer, reader)


async def test_a_lock_of_another_process_at_start(writer: SqliteWriter, url: str, db_file: Path) -> None:
    with locked_by_another_process(db_file), pytest.raises(StoreUnavailable, match="locked by another process"):
        await SqliteWriter.open(url, FixedClock(), busy_timeout_ms=50)


async def test_a_full_disk(writer: SqliteWriter, reader: SqliteReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])

    async def limit_pages(pages: int) -> None:
        await writer._writes.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    pages = await writer._writes.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await limit_pages(pages + 20)
    await fails_and_writes_nothing(writer, reader, "the disk is full; free some space")
    await fails_and_writes_nothing(writer, reader, "the disk is full; free some space")
    await limit_pages(1_000_000)
    await works_again(writer, reader)


async def test_a_log_that_cannot_grow(writer: SqliteWriter, reader: SqliteReader, db_file: Path) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    log_bytes = db_file.with_name(f"{db_file.name}-wal").stat().st_size
    with files_grow_no_further_than(log_bytes + 50_000):
        await fails_and_writes_nothing(writer, reader, "I/O error")
        await fails_and_writes_nothing(writer, reader, "I/O error")
    await works_again(writer, reader)


async def test_a_read_only_database(writer: SqliteWriter, reader: SqliteReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    await writer._writes.run(lambda connection: connection.execute("PRAGMA query_only = on").fetchone())
    await fails_and_writes_nothing(writer, reader, "is read-only; give this user write permission")
    await works_again(writer, reader)


async def test_a_missing_database_and_one_without_tables(url: str, db_file: Path) -> None:
    reader = SqliteReader(url)
    with pytest.raises(StoreUnavailable, match="does not exist; the node that writes creates it"):
        await reader.read(BTC_1M, everything(), 1)
    db_file.parent.mkdir()  # the folder did not exist: a reader creates nothing
    with closing(sqlite3.connect(db_file)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    with pytest.raises(StoreUnavailable, match="has no klinenode tables yet; the node that writes creates them"):
        await reader.read(BTC_1M, everything(), 1)
    writer = await SqliteWriter.open(url, FixedClock())
    await writer.commit([batch(BTC_1M, Source.REST, BEFORE)])
    assert len((await reader.read(BTC_1M, everything(), 99)).rows) == 10
    await writer.close()
    await reader.close()


async def test_a_file_that_is_no_database(url: str, db_file: Path) -> None:
    put_text_in_place_of(db_file)
    with pytest.raises(StoreUnavailable, match="is no SQLite database; check DB_URL"):
        await SqliteWriter.open(url, FixedClock())
    reader = SqliteReader(url)
    with pytest.raises(StoreUnavailable, match="is no SQLite database"):
        await reader.ledgers()
    await reader.close()


async def test_a_damaged_database(url: str, db_file: Path) -> None:
    writer = await SqliteWriter.open(url, FixedClock())
    await writer.commit([batch(BTC_1M, Source.REST, LATER)])
    await writer.close()
    damage(db_file)
    reader = SqliteReader(url)
    with pytest.raises(StoreUnavailable, match="is damaged; stop the node, move the file away"):
        await reader.read(BTC_1M, everything(), 99)
    await reader.close()
