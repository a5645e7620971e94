"""The server that other tests use: databases of their own, a restart, a crash, and who may connect."""

import asyncpg
import pytest

from tests.postgres_server import SAFE, PostgresServer, execute, fresh_database, on_connection


async def one(connection: asyncpg.Connection) -> object:
    return await connection.fetchval("SELECT current_database()")


async def test_each_test_gets_a_database_of_its_own() -> None:
    found = [await on_connection(await fresh_database(), one) for _ in range(2)]
    assert len(set(found)) == 2


async def test_a_server_of_its_own_can_be_restarted_and_asks_strangers_for_a_password() -> None:
    with PostgresServer() as server:
        before = server.pid
        server.restart()
        assert server.pid != before
        for url in (server.url(), server.tcp_url()):
            assert await on_connection(url, one) == "postgres"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await on_connection(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres", one)


async def test_a_safe_server_keeps_what_was_committed_before_a_crash() -> None:
    with PostgresServer(settings=SAFE) as server:
        await execute(server.url(), "CREATE TABLE kept AS SELECT 7 AS number")
        server.stop(is_immediate=True)
        server.start()

        async def found(connection: asyncpg.Connection) -> tuple[object, object]:
            number = await connection.fetchval("SELECT number FROM kept")
            return number, await connection.fetchval("SHOW fsync")

        assert await on_connection(server.url(), found) == (7, "on")
        assert "was not properly shut down" in server.log()
