"""The real Postgres server in the simulated network: its locks, time-outs and notifications, on virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from app.ports.errors import StoreUnavailable
from infra.postgres.connections import CLOSE_S_MAX
from infra.postgres.lease import PostgresLease
from infra.postgres.postgres_store import READ_CONNECTIONS_MAX, PostgresReader
from infra.postgres.reach import GOODBYE_S_MAX
from tests.postgres_server import OF_ANOTHER, shared_server
from tests.programs.sim.loop import PROCESS, Fate, SimLoop
from tests.programs.sim.network import Network
from tests.programs.sim.on_postgres import SURFACE, OnPostgres, Template
from tests.programs.sim.store import Disk

# killed processes leave their connections open, which warn when they are garbage-collected
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(OF_ANOTHER is not None, reason="the simulation needs the wheel's server"),
]
KEPT: list[object] = []
"""Objects of killed processes, kept alive: collected, they would run their `finally` blocks during some other test."""


class Place:
    """A simulated network with a database."""

    def __init__(self, loop: SimLoop, template: Template, folder: Path) -> None:
        self.loop = loop
        self.network = loop.network = Network(loop, Random("network"))
        self.store = OnPostgres(template, folder, self.network, Disk(loop, Random("disk")))
        self.url: str = self.store.settings()["db_url"]

    async def connect(self, **settings: str) -> asyncpg.Connection:
        return await asyncpg.connect(self.url, server_settings=settings)

    def start(self, work: Awaitable[Any]) -> Fate:
        """Start a process."""
        fate = Fate("victim", lambda: self.network.bury(fate, silently=False))
        context = Context()
        context.run(PROCESS.set, fate)
        KEPT.append(self.loop.create_task(work, context=context))  # type: ignore[arg-type]
        return fate

    async def pause(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)  # noqa: TID251  on virtual time


@pytest.fixture(scope="module")
def template() -> Template:
    return asyncio.run(Template.made(shared_server()))


@pytest.fixture
def place(template: Template, tmp_path: Path) -> Iterator[Place]:
    loop = SimLoop()
    made = Place(loop, template, tmp_path)
    with made.store.running(loop):
        yield made
    KEPT.extend((loop, *asyncio.all_tasks(loop)))


def play(place: Place, work: Callable[[], Awaitable[Any]]) -> None:
    place.loop.run_until_complete(work())


def test_a_statement_takes_virtual_time_and_none_of_it_in_the_server(place: Place) -> None:
    async def work() -> None:
        connection = await place.connect(statement_timeout="10")
        before_s = place.loop.time()
        assert await connection.fetchval("SELECT count(*) FROM generate_series(1, 300000)") == 300_000
        assert place.loop.time() - before_s < 0.1
        await connection.close()

    play(place, work)


def test_who_waits_for_a_lock_lets_time_go_on_and_has_it_once_it_is_free(place: Place) -> None:
    async def work() -> None:
        holder, waiter = await place.connect(), await place.connect()
        await holder.execute("BEGIN; LOCK TABLE ledger")
        waiting = place.loop.create_task(waiter.execute("LOCK TABLE ledger IN ROW EXCLUSIVE MODE; SELECT 1"))
        await place.pause(3_600)
        assert not waiting.done()
        await holder.execute("COMMIT")
        await place.pause(0.1)
        assert waiting.done()

    play(place, work)


def test_a_lock_is_given_up_after_its_timeout_on_virtual_time(place: Place) -> None:
    async def work() -> None:
        holder, waiter = await place.connect(), await place.connect(lock_timeout="5000")
        await holder.execute("BEGIN; LOCK TABLE ledger")
        before_s = place.loop.time()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await waiter.execute("BEGIN; SELECT 1 FROM ledger")
        assert 5 <= place.loop.time() - before_s < 5.1

    play(place, work)


def test_a_cancelled_statement_stops_waiting(place: Place) -> None:
    async def work() -> None:
        holder, waiter = await place.connect(), await place.connect()
        await holder.execute("BEGIN; LOCK TABLE ledger")
        with pytest.raises(TimeoutError):
            await waiter.execute("SELECT 1 FROM ledger", timeout=7)
        assert await waiter.fetchval("SELECT 1") == 1

    play(place, work)


def test_idle_sessions_end_after_their_timeout_on_virtual_time(place: Place) -> None:
    async def work() -> None:
        silent = await place.connect()
        await silent.execute("SET idle_session_timeout = 3000")
        within = await place.connect(idle_in_transaction_session_timeout="10000")
        await within.execute("BEGIN")
        await place.pause(2.9)
        assert await silent.fetchval("SELECT 1") == 1
        await place.pause(3.1)
        assert silent.is_closed()
        assert not within.is_closed()
        await place.pause(5)
        assert within.is_closed()

    play(place, work)


def test_a_listener_is_notified_of_a_commit(place: Place) -> None:
    async def work() -> None:
        listener, other = await place.connect(), await place.connect()
        heard: list[object] = []
        await listener.add_listener("channel", lambda *told: heard.append(told[-1]))
        async with other.transaction():
            await other.execute("NOTIFY channel, 'one'")
        await place.pause(0.1)
        assert heard == ["one"]

    play(place, work)


def test_a_killed_process_loses_its_transaction_and_its_locks_at_once(place: Place) -> None:
    async def victim() -> None:
        connection = await place.connect()
        await connection.execute("BEGIN; INSERT INTO anchor VALUES ('A', 1)")
        await connection.execute("SELECT pg_advisory_lock(1)")
        await place.pause(3_600)

    async def work() -> None:
        fate = place.start(victim())
        other = await place.connect()
        await place.pause(1)
        assert not await other.fetchval("SELECT pg_try_advisory_lock(1)")
        fate.kill()
        await place.pause(0.1)
        assert await other.fetchval("SELECT pg_try_advisory_lock(1)")
        assert await other.fetchval("SELECT count(*) FROM anchor") == 0

    play(place, work)


def test_a_frozen_holder_of_the_lease_loses_it_after_three_virtual_seconds(place: Place) -> None:
    async def hold() -> None:
        assert await PostgresLease(place.url).try_acquire("http://frozen")
        await place.pause(3_600)

    async def work() -> None:
        fate = place.start(hold())
        await place.pause(60)
        other = PostgresLease(place.url)
        assert not await other.try_acquire("http://other")
        place.loop.freeze(fate, 60)
        await place.pause(2)
        assert not await other.try_acquire("http://other")
        await place.pause(2)
        assert await other.try_acquire("http://other")
        assert other.is_held()
        await other.release()

    play(place, work)


def test_all_idle_connections_of_a_store_are_closed_within_one_time_if_the_server_does_not_answer(
    place: Place,
) -> None:
    async def work() -> None:
        reader = PostgresReader(place.url)
        async with asyncio.TaskGroup() as group:
            for _ in range(READ_CONNECTIONS_MAX):
                group.create_task(reader.ledgers())
        place.network.block(SURFACE, 3_600)
        before_s = place.loop.time()
        await reader.close()
        assert place.loop.time() - before_s < CLOSE_S_MAX + 0.1

    play(place, work)


def test_a_lease_is_given_back_soon_if_the_server_does_not_answer(place: Place) -> None:
    async def work() -> None:
        lease = PostgresLease(place.url)
        assert await lease.try_acquire("http://holder")
        place.network.block(SURFACE, 3_600)
        before_s = place.loop.time()
        await lease.release()
        assert place.loop.time() - before_s < GOODBYE_S_MAX + 0.1

    play(place, work)


def test_a_lease_is_given_back_soon_while_others_connect_or_wait_for_an_answer(place: Place) -> None:
    async def work() -> None:
        connecting, answering = PostgresLease(place.url), PostgresLease(place.url)
        assert await answering.try_acquire("http://holder")
        place.network.block(SURFACE, 3_600)
        for lease in (connecting, answering):
            looks = [place.loop.create_task(lease.holder()), place.loop.create_task(lease.try_acquire("http://other"))]
            await place.pause(0.5)
            before_s = place.loop.time()
            await lease.release()
            assert place.loop.time() - before_s < GOODBYE_S_MAX + 0.1
            assert not lease.is_held()
            await asyncio.wait(looks)
            assert looks[0].result() is None
            assert isinstance(looks[1].exception(), StoreUnavailable)
        await place.pause(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left behind"

    play(place, work)


def test_a_store_that_still_connects_is_closed_soon(place: Place) -> None:
    async def work() -> None:
        place.network.block(SURFACE, 3_600)
        reader = PostgresReader(place.url)
        reads = [place.loop.create_task(reader.ledgers()) for _ in range(READ_CONNECTIONS_MAX)]
        await place.pause(0.5)
        before_s = place.loop.time()
        await reader.close()
        assert place.loop.time() - before_s < CLOSE_S_MAX + 0.1
        await asyncio.wait(reads)
        assert all(isinstance(read.exception(), StoreUnavailable) for read in reads)

    play(place, work)


def test_a_stopped_server_ends_all_sessions_and_is_there_again_later(place: Place) -> None:
    async def work() -> None:
        connection = await place.connect()
        place.store.stop(10)
        await place.pause(0.1)
        assert connection.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await place.connect()
        await place.pause(10)
        await (await place.connect()).close()

    play(place, work)


def test_a_demoted_server_refuses_writes_until_it_is_promoted(place: Place) -> None:
    async def work() -> None:
        place.store.demote(10)
        place.store.lock(5)  # of no effect: a standby takes no locks of rows
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await (await place.connect()).execute("INSERT INTO anchor VALUES ('A', 1)")
        await place.pause(10)
        await (await place.connect()).execute("INSERT INTO anchor VALUES ('A', 1)")

    play(place, work)
