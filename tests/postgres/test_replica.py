"""A replica is read when it has what the process promises, and only then. A real one, which can be held back."""

from collections.abc import AsyncIterator, Iterator

import pytest

from app.domain.ledger import Source
from app.domain.span import Span
from app.events import Event, ReplicaAway, ReplicaUsed
from infra.postgres import replica
from infra.postgres.change_feed import PostgresChangeFeed
from infra.postgres.examine_replica import examine_replica
from infra.postgres.postgres_store import PostgresWriter
from infra.postgres.replica import ReplicaReader
from tests.postgres.standby import Standby
from tests.postgres_server import PostgresServer, execute, fresh_database, on_connection
from tests.sqlite.material import BTC_1M, FixedClock, batch, minutes
from tests.stores.databases import migrated_template
from tests.system.processes import until

EVERYTHING = Span(0, 1 << 53)


class Stage:
    """A database with a replica, its writer, and a process that follows it."""

    def __init__(self, primary: PostgresServer, standby: Standby, writer: PostgresWriter, url: str, name: str) -> None:
        self.primary, self.standby, self.writer, self.name = primary, standby, writer, name
        self.feed = PostgresChangeFeed(url)
        self.seen: int | None = None
        self.events: list[Event] = []
        self.reader = ReplicaReader(url, standby.url(name), lambda: self.seen, observe=self.events.append)

    async def look(self) -> None:
        self.seen = (await self.feed.changes(self.seen)).last

    async def rows(self) -> int:
        count, _ = await self.reader.read_encoded(BTC_1M, EVERYTHING, 100)
        return count

    async def replayed(self) -> None:
        """Wait until the replica has everything."""
        newest = "SELECT max(seq) FROM change"

        async def has_it() -> bool:
            numbers = [
                await on_connection(server.url(self.name), lambda each: each.fetchval(newest))
                for server in (self.primary, self.standby)
            ]
            return bool(numbers[0] == numbers[1])

        await until(has_it, "the replica has replayed everything")

    async def hold_back(self, *, is_held: bool) -> None:
        await execute(self.standby.url(self.name), f"SELECT pg_wal_replay_{'pause' if is_held else 'resume'}()")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, Standby]]:
    with PostgresServer() as primary, Standby(primary) as standby:
        yield primary, standby


@pytest.fixture
async def stage(servers: tuple[PostgresServer, Standby], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(replica, "REST_S", 0.0)
    primary, standby = servers
    url = await fresh_database(primary.url)
    writer = await PostgresWriter.open(url, FixedClock())
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 2)))])
    made = Stage(primary, standby, writer, url, _name_of(url))

    async def exists() -> bool:
        found = await on_connection(
            standby.url(), lambda each: each.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", made.name)
        )
        return bool(found)

    await until(exists, "the replica has the database")
    await made.replayed()
    yield made
    await made.reader.close()
    await made.feed.close()
    await writer.close()


def _name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


async def test_what_it_has_not_replayed_is_read_from_the_primary(stage: Stage) -> None:
    await stage.look()
    assert await stage.rows() == 2
    assert stage.events == [ReplicaUsed()]
    await stage.hold_back(is_held=True)
    await stage.writer.commit([batch(BTC_1M, Source.WS, minutes((2, 5)))])
    assert await stage.rows() == 2, "a process that has not seen the commit reads from the replica"
    await stage.look()
    assert await stage.rows() == 5, "one that has reads from the primary"
    assert (await stage.reader.read(BTC_1M, EVERYTHING, 9)).ledger.held == minutes((0, 5))
    await stage.hold_back(is_held=False)
    await stage.replayed()
    assert await stage.rows() == 5
    assert stage.events == [ReplicaUsed()], "to be a moment behind is no fault"


async def test_a_process_that_writes_or_does_not_follow_reads_from_the_primary(stage: Stage) -> None:
    await stage.hold_back(is_held=True)
    await stage.writer.commit([batch(BTC_1M, Source.WS, minutes((2, 5)))])
    assert stage.seen is None
    assert await stage.rows() == 5
    await stage.hold_back(is_held=False)
    assert stage.events == []


async def test_without_the_replica_the_primary_is_read_and_that_is_said_once(stage: Stage) -> None:
    await stage.look()
    assert await stage.rows() == 2
    stage.standby.stop()
    assert [await stage.rows() for _ in range(3)] == [2, 2, 2]
    used, away = stage.events
    assert (used, type(away)) == (ReplicaUsed(), ReplicaAway)
    stage.standby.start()
    assert await stage.rows() == 2
    assert stage.events[2:] == [ReplicaUsed()]


async def test_another_database_is_not_taken_for_a_replica(stage: Stage) -> None:
    await stage.look()
    other = await fresh_database(stage.primary.url)
    opened = await PostgresWriter.open(other, FixedClock())
    await opened.commit([batch(BTC_1M, Source.WS, minutes((0, 9)))])
    reader = ReplicaReader(stage.primary.url(stage.name), other, lambda: stage.seen, observe=stage.events.append)
    count, _ = await reader.read_encoded(BTC_1M, EVERYTHING, 100)
    assert count == 2
    assert stage.events == [ReplicaAway("DB_READ_URL does not name a replica of DB_URL, but another database")]
    await reader.close()
    await opened.close()


async def test_the_doctor_tells_a_replica_from_another_server_and_sees_what_it_lacks(stage: Stage) -> None:
    url, replica_url = stage.primary.url(stage.name), stage.standby.url(stage.name)
    await stage.replayed()
    whole = await examine_replica(url, replica_url)
    assert (whole.failed, whole.is_replica, whole.is_same) == (None, True, True)
    await stage.hold_back(is_held=True)
    await execute(url, "CREATE TABLE more AS SELECT generate_series(1, 1000)")

    async def is_behind() -> (
        bool
    ):  # the primary writes its log when a transaction has ended, and pausing takes a moment
        await execute(url, "INSERT INTO more SELECT generate_series(1, 1000)")
        return (await examine_replica(url, replica_url)).behind_bytes > 10_000

    await until(is_behind, "the replica is behind")
    await stage.hold_back(is_held=False)
    assert not (await examine_replica(url, url)).is_replica
    assert not (await examine_replica(await fresh_database(template=await migrated_template()), replica_url)).is_same
    assert "cannot be reached" in str((await examine_replica(url, "postgresql://a:b@127.0.0.1:1/k")).failed)
