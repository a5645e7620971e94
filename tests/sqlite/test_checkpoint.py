"""The write-ahead log stays small with readers that never pause, and recovers after a reader that stays for long."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from app.domain.ledger import Source
from infra.sqlite import checkpoint
from infra.sqlite.checkpoint import HELD_MS_MIN, RETRY_MS
from infra.sqlite.library import sqlite3
from infra.sqlite.log_readers import LOCKS
from infra.sqlite.sqlite_store import SqliteWriter
from tests.sqlite.material import BTC_1M, NOW_MS, batch, minutes

BOUND = 256 * 1024
ROWS = 500  # of a commit, which adds about 80 kB to the log


class Clock:
    """A clock that stands still until it is moved."""

    ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("the store does not wait")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(checkpoint, "WAL_BYTES_MAX", BOUND)
    return Clock()


@pytest.fixture
async def writer(url: str, clock: Clock) -> AsyncIterator[SqliteWriter]:
    store = await SqliteWriter.open(url, clock)
    yield store
    await store.close()


class Days:
    """Commits later and later minutes; each commit returns the size (bytes) of the log."""

    def __init__(self, writer: SqliteWriter, db_file: Path) -> None:
        self._writer = writer
        self._log = db_file.with_name(f"{db_file.name}-wal")
        self._number = count()

    async def commit(self) -> int:
        number = next(self._number)
        await self._writer.commit([batch(BTC_1M, Source.REST, minutes((number * ROWS, (number + 1) * ROWS)))])
        return self._log.stat().st_size


def rows_seen(reader: sqlite3.Connection) -> int:
    seen: int = reader.execute("SELECT count(*) FROM kline_1m").fetchone()[0]
    return seen


async def test_the_log_stays_bounded_while_readers_are_always_under_way(
    writer: SqliteWriter, db_file: Path, clock: Clock
) -> None:
    days = Days(writer, db_file)
    first = await days.commit()
    is_over, reads = threading.Event(), count()

    def read_on() -> None:
        with closing(sqlite3.connect(f"file:{db_file}?mode=ro", uri=True, isolation_level=None)) as reader:
            while not is_over.is_set():
                reader.execute("BEGIN")
                rows_seen(reader)
                reader.execute("COMMIT")
                next(reads)

    threads = [threading.Thread(target=read_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        sizes = []
        for _ in range(60):
            clock.ms += RETRY_MS
            sizes.append(await days.commit())
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert next(reads) > 60
    assert sum(size < BOUND for size in sizes) > len(sizes) // 2
    assert max(sizes) < 4 * BOUND < 60 * first, "several attempts in a row may meet a reader, not all of them"


async def test_a_reader_that_stays_holds_up_nobody_and_the_log_recovers_when_it_has_gone(
    writer: SqliteWriter, db_file: Path, clock: Clock
) -> None:
    days, asked = Days(writer, db_file), list[str]()
    await days.commit()
    await writer._writes.run(lambda connection: connection.set_trace_callback(asked.append))

    def attempts() -> int:
        return sum("wal_checkpoint" in statement for statement in asked)

    with closing(sqlite3.connect(f"file:{db_file}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert rows_seen(reader) == ROWS
        for _ in range(10):
            grown = await days.commit()
        assert grown > BOUND
        assert attempts() == 1, "waiting again at once would take all of the writer's time"
        clock.ms += RETRY_MS
        await days.commit()
        assert attempts() == 2
        assert rows_seen(reader) == ROWS, "its state of the database is still there"
        reader.execute("COMMIT")
        assert rows_seen(reader) == 12 * ROWS
    assert await days.commit() > grown
    clock.ms += RETRY_MS
    assert await days.commit() == 0
    [timeout_ms] = await writer._writes.run(lambda connection: connection.execute("PRAGMA busy_timeout").fetchone())
    assert timeout_ms == 5_000, "commits wait for other processes as long as before"


READ_ON = """
import sqlite3, sys
reader = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
reader.execute("BEGIN")
print(reader.execute("SELECT count(*) FROM kline_1m").fetchone()[0], flush=True)
sys.stdin.read()
"""


def reading_on(database: Path) -> subprocess.Popen[bytes]:
    """Start a program that stays inside a read transaction until its input ends."""
    program = subprocess.Popen(
        [sys.executable, "-c", READ_ON, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdout is not None
    program.stdout.readline()
    return program


async def test_a_program_that_reads_for_long_is_named_while_it_does(
    writer: SqliteWriter, db_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "COMPLAINT_BYTES_MIN", 2 * BOUND)
    days = Days(writer, db_file)
    await days.commit()
    with reading_on(db_file) as program:
        while await days.commit() < 2 * BOUND:
            clock.ms += RETRY_MS // 2
        assert writer.log_complaint() is None, "it has not stayed long"
        for _ in range(HELD_MS_MIN // RETRY_MS + 1):
            clock.ms += RETRY_MS
            await days.commit()
        said = writer.log_complaint()
        assert said is not None
        assert "inside one read transaction for " in said
        if LOCKS.exists():
            assert f"(process {program.pid})" in said
        program.communicate()
        if LOCKS.exists():
            assert writer.log_complaint() is None, "it is over at once, not at the next commit"
    clock.ms += RETRY_MS
    assert await days.commit() == 0
    assert writer.log_complaint() is None


async def test_readers_that_come_and_go_are_no_reason_to_complain(
    writer: SqliteWriter, db_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every checkpoint some reader is inside a transaction, but no reader stays long."""
    monkeypatch.setattr(checkpoint, "COMPLAINT_BYTES_MIN", 0)
    days = Days(writer, db_file)
    await days.commit()
    before: sqlite3.Connection | None = None
    kept = 0
    for _ in range(3 * HELD_MS_MIN // RETRY_MS):
        reader = sqlite3.connect(f"file:{db_file}?mode=ro", uri=True, isolation_level=None)
        reader.execute("BEGIN")
        rows_seen(reader)
        if before is not None:
            before.close()
        before = reader
        clock.ms += RETRY_MS
        kept += await days.commit() > BOUND
        assert writer.log_complaint() is None
    assert kept > HELD_MS_MIN // RETRY_MS, "the log was held up all the time"
    assert before is not None
    before.close()


async def test_a_clock_that_was_put_back_does_not_stop_checkpoints(
    writer: SqliteWriter, db_file: Path, clock: Clock
) -> None:
    days = Days(writer, db_file)
    await days.commit()
    with closing(sqlite3.connect(f"file:{db_file}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        rows_seen(reader)
        while await days.commit() < BOUND:
            pass
        await days.commit()
    clock.ms -= 3_600_000
    assert await days.commit() == 0
