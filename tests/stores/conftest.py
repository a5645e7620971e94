"""A database of each kind of store, its writer and a reader."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.ports.coordination import ChangeFeed
from tests.sqlite.material import FixedClock
from tests.stores.databases import DATABASES, Database, OpenReader, OpenWriter


@pytest.fixture(params=DATABASES.values(), ids=list(DATABASES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    kind: type[Database] = request.param
    return await kind.made(tmp_path)


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[OpenWriter]:
    store = await database.writer(FixedClock())
    yield store
    await store.close()


@pytest.fixture
async def reader(writer: OpenWriter, database: Database) -> AsyncIterator[OpenReader]:
    store = await database.reader()
    yield store
    await store.close()


@pytest.fixture
async def feed(writer: OpenWriter, database: Database) -> AsyncIterator[ChangeFeed]:
    found = database.change_feed()
    yield found
    await found.close()
