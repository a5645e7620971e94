"""If the database cannot be reached or written, the message says what to do, and the store recovers by itself."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from app.domain.interval import M1
from app.domain.ledger import Source
from app.ports.errors import StoreUnavailable
from infra.postgres import connections
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer, execute, fresh_database, on_connection
from tests.sqlite.material import BTC_1M, FixedClock, batch, everything, klines, minutes

AWAY = "(start the server|was disconnected|ended this connection)"
FIRST, SECOND = minutes((0, 10)), minutes((10, 20))


async def rows(store: PostgresReader) -> list[object]:
    return (await store.read(BTC_1M, everything(), 999)).rows


async def commit(writer: PostgresWriter, number: int = 0) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, (FIRST, SECOND)[number])])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[PostgresWriter, PostgresReader]]:
    writer, reader = await PostgresWriter.open(url, FixedClock()), PostgresReader(url)
    try:
        yield writer, reader
    finally:
        await reader.close()
        await writer.close()


async def test_reads_and_writes_go_on_after_the_server_was_restarted(server: PostgresServer) -> None:
    async with opened(server.url()) as (writer, reader):
        await commit(writer)
        assert len(await rows(reader)) == 10
        server.restart()
        assert len(await rows(reader)) == 10, "made again on a new connection"
        await eventually(lambda: commit(writer, 1))
        assert len(await rows(reader)) == 20
        assert not writer.is_replaced()


async def eventually(work: Callable[[], Awaitable[None]]) -> None:
    """As the committer does: a write that fails is made again."""
    for attempt in range(3):
        try:
            return await work()
        except StoreUnavailable:
            assert attempt < 2, "it does not recover"
    return None


async def test_while_the_server_is_away_everything_is_refused_with_advice(server: PostgresServer) -> None:
    reports: list[str | None] = []

    def is_well() -> bool:
        return reports[-1] is None

    writer = await PostgresWriter.open(server.url(), FixedClock(), report=reports.append)
    reader = PostgresReader(server.url())
    await commit(writer)
    assert is_well()
    server.stop()
    for work in (rows(reader), commit(writer, 1), rows(reader), commit(writer, 1)):
        with pytest.raises(StoreUnavailable, match=AWAY):
            await work
    assert not is_well()
    server.start()
    assert len(await rows(reader)) == 10
    await commit(writer, 1)
    assert is_well()
    await writer.close()
    await reader.close()


async def test_a_session_that_is_ended_in_a_commit_leaves_nothing_of_it(url: str) -> None:
    async with opened(url) as (writer, reader):
        await commit(writer)
        blocker = await asyncpg.connect(url)
        await blocker.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(expect(commit(writer, 1), AWAY))
            await until_waiting(blocker)
            await blocker.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid() "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            await ended
        await blocker.close()
        assert len(await rows(reader)) == 10
        await commit(writer, 1)
        assert await rows(reader) == klines(minutes((0, 20)), M1.grid)


async def until_waiting(connection: asyncpg.Connection) -> None:
    """Wait until another session of this database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(PATIENCE_S):
        while not await connection.fetchval(waiting):
            await connection.execute("SELECT pg_sleep(0.01)")


async def expect(work: Awaitable[None], message: str) -> None:
    with pytest.raises(StoreUnavailable, match=message):
        await work


class Cut:
    """A proxy on loopback that loses the server's answer to a COMMIT, as a network does that fails in this moment."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.is_wanted = False
        self.is_done = False
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port = listener.sockets[0].getsockname()[1]
        async with listener:
            yield

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        is_committing = False

        async def answer() -> None:
            while part := await server.read(1 << 16):
                if is_committing:
                    self.is_wanted, self.is_done = False, True
                    break
                to_client.write(part)
            to_client.transport.abort()

        async with asyncio.TaskGroup() as group:
            group.create_task(answer())
            while part := await client.read(1 << 16):
                is_committing = self.is_wanted and b"COMMIT\0" in part
                to_server.write(part)
            to_server.close()


async def test_a_commit_whose_answer_was_lost_may_be_made_again(server: PostgresServer) -> None:
    cut = Cut(server.port)
    async with cut.listening():
        writer = await PostgresWriter.open(server.tcp_url(port=cut.port), FixedClock())
        await commit(writer)
        cut.is_wanted = True
        with pytest.raises(StoreUnavailable, match="was disconnected"):
            await commit(writer, 1)
        assert cut.is_done
        reader = PostgresReader(server.url())
        assert len(await rows(reader)) == 20, "it came about"
        [committed] = await writer.commit([batch(BTC_1M, Source.REST, SECOND)])
        assert (committed.revised, committed.ledger.held) == (0, minutes((0, 20)))
        assert await reader.revisions() == {}
        assert await rows(reader) == klines(minutes((0, 20)), M1.grid)
        await reader.close()
        await writer.close()


async def test_a_statement_that_takes_too_long_is_cancelled(
    url: str, writer: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_STATEMENT_MS_MAX", 50)
    reader = PostgresReader(url)
    with pytest.raises(StoreUnavailable, match="took too long for a statement"):
        await reader._reads.run(lambda connection: connection.execute("SELECT pg_sleep(600)"))
    assert await rows(reader) == []
    await reader.close()


async def test_a_connection_that_does_not_answer_is_not_used_again(
    url: str, writer: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNANSWERED_S", 0.1 - connections.READ_STATEMENT_MS_MAX / 1000)
    reader = PostgresReader(url)
    with pytest.raises(StoreUnavailable, match="does not answer; check the server and the network"):
        await reader._reads.run(lambda connection: connection.execute("SELECT pg_sleep(600)"))
    assert reader._reads._idle == []
    monkeypatch.undo()
    assert await rows(reader) == []
    await reader.close()


async def test_a_table_that_another_session_locks_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOCK_MS_MAX", 50)
    async with opened(url) as (writer, reader):
        locker = await asyncpg.connect(url)
        await locker.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
        for work in (rows(reader), commit(writer)):
            with pytest.raises(StoreUnavailable, match="is locked by another session"):
                await work
        await locker.close()
        await commit(writer)
        assert len(await rows(reader)) == 10


async def test_readers_cannot_write(reader: PostgresReader) -> None:
    with pytest.raises(StoreUnavailable, match="is read-only"):
        await reader._reads.run(lambda connection: connection.execute("DELETE FROM ledger"))


@pytest.mark.parametrize("then", ["another", "none", "restored"])
async def test_a_database_that_was_replaced_is_noticed(server: PostgresServer, then: str) -> None:
    url = await fresh_database(server.url)
    name = str(await on_connection(url, lambda connection: connection.fetchval("SELECT current_database()")))
    writer = await PostgresWriter.open(url, FixedClock())
    await commit(writer)
    if then == "restored":  # a copy has the same token
        await writer._writes.close()
        await execute(server.url(), f"CREATE DATABASE copy TEMPLATE {name}", f"DROP DATABASE {name}")
        await execute(server.url(), f"ALTER DATABASE copy RENAME TO {name}")
    else:
        await execute(server.url(), f"DROP DATABASE {name} WITH (FORCE)")
    if then == "another":
        await execute(server.url(), f"CREATE DATABASE {name}")
        await (await PostgresWriter.open(url, FixedClock())).close()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await commit(writer, 1)
    assert writer.is_replaced()
    with pytest.raises(StoreUnavailable, match="was dropped or replaced while the node had it open"):
        await commit(writer, 1)
    await writer.close()


async def refused(url: str) -> object:
    reader = PostgresReader(url)
    try:
        return await reader.ledgers()
    finally:
        await reader.close()


async def test_no_message_has_the_password(server: PostgresServer) -> None:
    good = server.tcp_url()
    password = good.split(":")[2].partition("@")[0]
    wrong = [
        good.replace(password, "secret-7"),
        good.replace(password, "secret-7").replace("/postgres", "/other"),
        good.replace(password, "secret-7").replace(str(server.port), "1"),
        good.replace(password, "secret-7").replace("postgres:", "nobody_there:", 1),
    ]
    for url in wrong:
        for work in (refused(url), PostgresWriter.open(url, FixedClock())):
            with pytest.raises(StoreUnavailable) as caught:
                await work
            assert "secret-7" not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert "secret-7" not in repr(PostgresReader(wrong[0]))
    with pytest.raises(StoreUnavailable, match="refuses this user; check user and password in DB_URL"):
        await refused(wrong[0])
    with pytest.raises(StoreUnavailable, match=r"the database postgres at 127\.0\.0\.1:1 cannot be reached"):
        await refused(wrong[2])


async def test_a_database_that_nobody_has_created_is_not_created_silently(server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable, match=r"the database missing at .* does not exist; create it"):
        await PostgresWriter.open(server.url("missing"), FixedClock())
    with pytest.raises(StoreUnavailable, match="has no klinenode tables yet"):
        await refused(server.url())


async def test_a_writer_takes_over_after_the_transaction_that_is_running(url: str, writer: PostgresWriter) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: asyncpg.Connection) -> None:
        running.set()
        await go_on.wait()
        await connection.execute("INSERT INTO anchor VALUES ('SLOW', 1)")

    async with asyncio.TaskGroup() as group:
        first = group.create_task(writer._write(slow))
        await running.wait()
        second = group.create_task(PostgresWriter.open(url, FixedClock()))
        looker = await asyncpg.connect(url)
        await until_waiting(looker)
        await looker.close()
        assert not second.done(), "it waits for the lock on the epoch"
        go_on.set()
    newer = second.result()
    assert first.exception() is None
    assert await newer.anchors() == {"SLOW": 1}
    with pytest.raises(StoreUnavailable, match="another process has become the writer"):
        await commit(writer)
    assert writer.is_deposed
    await newer.close()


async def test_closing_does_not_wait_for_a_server_that_does_not_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_S_MAX", 0.05)
    reader, running = PostgresReader(url), asyncio.Event()

    async def stuck(connection: asyncpg.Connection) -> None:
        running.set()
        await connection.execute("SELECT pg_sleep(600)")

    assert await reader.ledgers() == {}
    async with asyncio.TaskGroup() as group:
        group.create_task(expect(reader._reads.run(stuck), AWAY))
        await running.wait()
        await reader.close()


async def test_the_failure_of_a_write_whose_caller_was_cancelled_is_reported(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "LOCK_MS_MAX", 50)
    reports: list[str | None] = []
    writer = await PostgresWriter.open(url, FixedClock(), report=reports.append)
    locker = await asyncpg.connect(url)
    await locker.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
    async with asyncio.TaskGroup() as group:
        cancelled = group.create_task(commit(writer))
        await until_waiting(locker)
        cancelled.cancel()
    await writer.close()
    await locker.close()
    gc.collect()
    assert "is locked by another session" in str(reports[-1])
    assert caplog.records == []


async def test_a_user_that_owns_the_database_is_enough(server: PostgresServer) -> None:
    await execute(server.url(), "CREATE ROLE node LOGIN PASSWORD 'a b/c@d'", "CREATE DATABASE nodes OWNER node")
    password = server.tcp_url().split(":")[2].partition("@")[0]
    url = server.tcp_url("nodes").replace(f"postgres:{password}", "node:a%20b%2Fc%40d")
    async with opened(url) as (writer, reader):
        await commit(writer)
        assert len(await rows(reader)) == 10
        await execute(server.url("nodes"), "DELETE FROM ledger")
        [committed] = await writer.commit([batch(BTC_1M, Source.WS, SECOND)])
        assert committed.ledger.held == SECOND, "changes of others are noticed"
