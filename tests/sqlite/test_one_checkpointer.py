"""Only the writer's own connection ever checkpoints while another connection has the database open.

Versions of SQLite with the WAL-reset bug may lose a commit when two connections write or checkpoint at one instant.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.domain.ledger import Source
from app.domain.span import Span
from app.node.stores import Reading, store_of
from app.ports.coordination import ChangeFeed
from app.ports.store import OpenReader
from infra.sqlite import fence
from infra.sqlite.library import sqlite3
from infra.sqlite.migrate import upgrade
from infra.sqlite.sqlite_store import SqliteWriter
from tests.sqlite.material import BTC_1M, T0_MS, FixedClock, batch, minutes

AUTOCHECKPOINT_BYTES = 1_000 * 4_096  # from here on each commit of a connection checkpoints unless that is turned off
ROWS = 5_000


class Files(NamedTuple):
    """The sizes of the database, which only checkpoints change, and of its log; None: there is none."""

    database: int
    log: int | None


class Closed(NamedTuple):
    """What was seen when a connection was closed."""

    place: str
    autocheckpoint: int
    before: Files
    after: Files


@pytest.fixture
def closed(db_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Closed]:
    """Every connection that this process has closed, in order."""
    seen: list[Closed] = []
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        place = ""

        def close(self) -> None:
            autocheckpoint = self.execute("PRAGMA wal_autocheckpoint").fetchone()[0]
            before = files(db_file)
            super().close()
            seen.append(Closed(self.place, autocheckpoint, before, files(db_file)))

    def watched(database: object, **options: Any) -> sqlite3.Connection:
        connection: Watched = connect(str(database), **(options | {"factory": Watched}))
        connection.place = str(database)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    return seen


def files(database: Path) -> Files:
    log = database.with_name(f"{database.name}-wal")
    return Files(database.stat().st_size, log.stat().st_size if log.exists() else None)


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed, also when it fails: the threads of connections would keep the program alive."""
    async with AsyncExitStack() as stack:
        yield stack


async def writer_of(url: str, opened: AsyncExitStack) -> SqliteWriter:
    writer = await SqliteWriter.open(url, FixedClock())
    opened.push_async_callback(writer.close)
    return writer


async def commit_beyond_the_threshold(writer: SqliteWriter, db_file: Path) -> Files:
    """Commit until SQLite's own checkpoints would have begun twice over."""
    number = 0
    while (found := files(db_file)).log is None or found.log < 2 * AUTOCHECKPOINT_BYTES:
        await writer.commit([batch(BTC_1M, Source.REST, minutes((number * ROWS, (number + 1) * ROWS)))])
        number += 1
    return found


def follower_of(url: str, opened: AsyncExitStack) -> tuple[OpenReader, ChangeFeed]:
    """What a process that does not write opens."""
    store = store_of(url)
    reader, feed = store.reader(Reading(url)), store.change_feed(url)
    opened.push_async_callback(reader.close)
    opened.push_async_callback(feed.close)
    return reader, feed


async def look(reader: OpenReader, feed: ChangeFeed) -> None:
    assert (await reader.read_encoded(BTC_1M, Span(T0_MS, T0_MS + 3_600_000), 60))[0] == 60
    assert (await feed.changes(None)).last > 0


async def test_neither_commits_nor_the_close_of_readers_checkpoint(
    url: str, db_file: Path, closed: list[Closed], opened: AsyncExitStack
) -> None:
    writer = await writer_of(url, opened)
    begun = files(db_file)
    grown = await commit_beyond_the_threshold(writer, db_file)
    assert grown.database == begun.database, "no commit has checkpointed"
    for reader, feed in (follower_of(url, opened), follower_of(url, opened)):
        await look(reader, feed)
        await reader.close()
        await feed.close()
    assert files(db_file) == grown

    reader, feed = follower_of(url, opened)
    await look(reader, feed)
    await writer.close()
    assert files(db_file) == grown, "the writer was not the last one"
    await reader.close()
    await feed.close()
    assert files(db_file) == grown, "the last one only reads"
    assert {(each.place.endswith("mode=ro"), each.autocheckpoint) for each in closed} == {(True, 0), (False, 0)}

    with closing(sqlite3.connect(db_file)) as other:  # what any other program's connection does
        assert other.execute("SELECT count(*) FROM kline_1m").fetchone()[0] > 0
    assert files(db_file).log is None
    assert files(db_file).database > grown.database


async def test_a_new_writer_leaves_the_log_of_a_suspended_one_alone(
    url: str, db_file: Path, closed: list[Closed], opened: AsyncExitStack
) -> None:
    suspended = await writer_of(url, opened)
    grown = await commit_beyond_the_threshold(suspended, db_file)
    closed.clear()
    writer = await writer_of(url, opened)
    migration, takeover = closed
    assert {migration.autocheckpoint, takeover.autocheckpoint} == {0}
    assert {each.database for each in (*migration[2:], *takeover[2:], files(db_file))} == {grown.database}
    assert migration.before.log == migration.after.log == grown.log
    await writer.close()
    assert files(db_file).database == grown.database, "the suspended one is still there"
    with closing(sqlite3.connect(db_file, isolation_level=None)) as other:  # what a commit does by itself
        other.execute("UPDATE writer SET epoch = epoch + 1")
        assert files(db_file).database > grown.database
    await suspended.close()


async def test_migration_and_takeover_checkpoint_when_nobody_else_has_the_database_open(
    url: str, db_file: Path, closed: list[Closed], opened: AsyncExitStack
) -> None:
    """SQLite does so when the last connection closes, and holds the whole file exclusively: nobody else can write."""
    writer = await writer_of(url, opened)
    grown = await commit_beyond_the_threshold(writer, db_file)
    reader, feed = follower_of(url, opened)
    await look(reader, feed)
    await writer.close()
    for act in (lambda: upgrade(url), lambda: fence.take_over(db_file, 0)):
        act()
        assert files(db_file).database == grown.database, "a reader has it open"
    await reader.close()
    await feed.close()
    closed.clear()
    upgrade(url)
    assert closed[0].before.database == grown.database
    assert files(db_file).log is None
    fence.take_over(db_file, 0)
    assert closed[1].before.log, "its commit"
    assert files(db_file).log is None
