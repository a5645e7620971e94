"""A Postgres database, its writer and a reader; and a server of its own for tests that stop it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from tests.postgres_server import PostgresServer, fresh_database
from tests.sqlite.material import FixedClock
from tests.stores.databases import migrated_template


@pytest.fixture
async def url() -> str:
    """The URL of a database with klinenode's tables, on the server that tests share."""
    return await fresh_database(template=await migrated_template())


@pytest.fixture
async def writer(url: str) -> AsyncIterator[PostgresWriter]:
    store = await PostgresWriter.open(url, FixedClock())
    yield store
    await store.close()


@pytest.fixture
async def reader(writer: PostgresWriter, url: str) -> AsyncIterator[PostgresReader]:
    store = PostgresReader(url)
    yield store
    await store.close()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of its own."""
    with PostgresServer() as own:
        yield own
