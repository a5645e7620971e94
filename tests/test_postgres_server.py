"""The server that other tests use: databases of their own, a restart, and who may connect."""

import asyncpg
import pytest

from tests.postgres_server import PostgresServer, fresh_database, on_connection


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
