"""The lease on a real server: cut networks, suspended holders, poolers, refusals (contract: tests/stores)."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.ports.errors import StoreUnavailable, StoreUnusable
from infra.postgres.lease import PostgresLease
from tests.fakes import turn
from tests.postgres.bouncer import answering, bouncer
from tests.postgres_server import PostgresServer, execute, fresh_database, on_connection, shared_server
from tests.stores.leases import PostgresLeases, another_process
from tests.system.processes import free_port, until
from tests.tcp_proxy import TcpProxy

END_THEM = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'klinenode lease'"


@pytest.fixture
async def other() -> AsyncIterator[PostgresLease]:
    """A lease of the database `other.url`."""
    lease = PostgresLease(await fresh_database(shared_server().tcp_url))
    yield lease
    await lease.release()


def url_of(lease: PostgresLease) -> str:
    return lease._db_url


async def test_nobody_else_gets_it_before_a_holder_beyond_a_cut_network_has_given_it_up(other: PostgresLease) -> None:
    async with TcpProxy(shared_server().port) as network:
        holder = PostgresLease(url_of(other).replace(f":{shared_server().port}/", f":{network.port}/"))
        assert await holder.try_acquire("http://cut.off")
        network.cut()
        beliefs = []

        async def is_free() -> bool:
            before = holder.is_held()
            is_ours = await other.try_acquire("http://other")
            beliefs.append((before, is_ours))
            return is_ours

        await until(is_free, "the server gives the lease to another process")
        assert beliefs[0] == (True, False)
        assert beliefs[-1] == (False, True)
        assert not holder.is_held()
        assert await other.holder() == "http://other"
        network.mend()
        assert not await holder.try_acquire("http://cut.off")
        await holder.release()


async def test_a_suspended_process_loses_it(other: PostgresLease) -> None:
    async with another_process(PostgresLeases(url_of(other)), "http://suspended") as process:
        assert not await other.try_acquire("http://other")
        process.send_signal(signal.SIGSTOP)

        async def is_free() -> bool:
            return await other.try_acquire("http://other")

        await until(is_free, "the server ends the silent session")
        process.send_signal(signal.SIGCONT)
        assert await other.holder() == "http://other"


async def test_it_can_be_used_by_many_at_once_while_and_after_it_is_released(other: PostgresLease) -> None:
    holder = PostgresLease(url_of(other))

    async def use(*, is_ending: bool) -> tuple[set[str | None], set[bool]]:
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(holder.holder()) for _ in range(5)]
            if is_ending:
                tasks.create_task(holder.release())
            trying = [] if is_ending else [tasks.create_task(holder.try_acquire("http://holder")) for _ in range(3)]
            asking += [tasks.create_task(holder.holder()) for _ in range(5)]
        return {each.result() for each in asking}, {each.result() for each in trying}

    assert await holder.try_acquire("http://holder")
    assert await use(is_ending=False) == ({"http://holder"}, {True})
    asked, _ = await use(is_ending=True)
    assert asked <= {"http://holder", None}, "whichever the server has done first"
    assert not holder.is_held()
    assert await other.try_acquire("http://other")
    assert await use(is_ending=False) == ({"http://other"}, {False})
    await holder.release()


async def test_who_asks_at_once_shares_one_look_at_the_holder(other: PostgresLease) -> None:
    async with TcpProxy(shared_server().port) as network:
        asked = PostgresLease(url_of(other).replace(f":{shared_server().port}/", f":{network.port}/"))
        assert await other.try_acquire("http://first")
        assert await asked.holder() == "http://first"
        network.cut()
        async with asyncio.TaskGroup() as tasks:
            early, late = (tasks.create_task(asked.holder()) for _ in range(2))
            await turn()
            assert asked._asking is not None
            looks = {asked._asking}
            early.cancel()
            await turn()
            network.mend()
        assert late.result() == "http://first", "not cancelled with the other one"
        assert looks == {asked._asking}
        await other.release()
        assert await asked.holder() is None, "an old look is not shared"
        await asked.release()


async def test_whose_session_ends_does_not_hold_it(other: PostgresLease) -> None:
    assert await other.try_acquire("http://other")
    await execute(url_of(other), END_THEM)

    async def is_lost() -> bool:
        return not other.is_held()

    await until(is_lost, "it notices")
    assert await other.holder() is None
    assert await other.try_acquire("http://other"), "it connects again"


async def test_a_server_that_is_gone_or_never_was_is_no_holder_and_says_so() -> None:
    lease = PostgresLease(f"postgresql://user:geheim@127.0.0.1:{free_port()}/klinenode")
    try:
        assert await lease.holder() is None
        with pytest.raises(StoreUnavailable, match="cannot be reached") as told:
            await lease.try_acquire("http://one")
        assert "geheim" not in str(told.value)
        assert not isinstance(told.value, StoreUnusable), "it may come back"
    finally:
        await lease.release()


async def test_a_restarted_server_is_connected_to_again() -> None:
    with PostgresServer() as server:
        lease = PostgresLease(server.url())
        assert await lease.try_acquire("http://one")
        server.stop()
        with pytest.raises(StoreUnavailable):
            await lease.try_acquire("http://one")
        assert not lease.is_held()
        server.start()
        assert await lease.try_acquire("http://one")
        assert lease.is_held()
        await lease.release()


async def test_what_a_person_has_to_correct_is_said_without_the_password() -> None:
    server = shared_server()
    await execute(server.url(), "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 'geheim'")
    refused = {
        f"postgresql://postgres:geheim@127.0.0.1:{server.port}/postgres": "password authentication failed",
        server.tcp_url("nowhere"): "does not exist",
        f"postgresql://guest:geheim@127.0.0.1:{server.port}/postgres": "permission denied for schema public",
    }
    for url, reason in refused.items():
        lease = PostgresLease(url)
        with pytest.raises(StoreUnusable, match=reason) as told:
            await lease.try_acquire("http://one")
        assert "geheim" not in str(told.value)
        assert server.tcp_url().split(":")[2].partition("@")[0] not in str(told.value)
        await lease.release()


async def test_nobody_is_left_with_the_error_of_a_request_that_was_cancelled() -> None:
    """Found by the simulation: the error of a lease that could not be taken, when the node had begun to stop."""
    lease, unhandled = PostgresLease(f"postgresql://postgres@127.0.0.1:{free_port()}/none"), list[object]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    asking = loop.create_task(lease.try_acquire("http://one"))
    await turn()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await lease.release()
    await turn()
    gc.collect()
    assert not unhandled


async def test_through_pgbouncer_two_clients_get_one_lock_and_the_lease_is_refused() -> None:
    server = shared_server()
    with bouncer(server, "transaction") as port:
        url = server.tcp_url(port=port)
        await answering(url)

        async def locks(first: asyncpg.Connection) -> list[object]:
            return [
                await on_connection(url, lambda each: each.execute("SELECT pg_advisory_lock(7)")),
                await first.execute("SELECT pg_advisory_lock(7)"),
            ]

        async with asyncio.timeout(20):
            assert len(await on_connection(url, locks)) == 2, "why it must be refused"
        await _is_refused(url)


async def test_pgbouncer_is_refused_in_session_mode_too() -> None:
    server = shared_server()
    with bouncer(server, "session") as port:
        await answering(server.tcp_url(port=port))
        await _is_refused(server.tcp_url(port=port))


async def _is_refused(url: str) -> None:
    lease = PostgresLease(url)
    with pytest.raises(StoreUnusable, match=r"connection pooler such as PgBouncer.*: name the database server itself"):
        await lease.try_acquire("http://one")
    assert not lease.is_held()
    await lease.release()
