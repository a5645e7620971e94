"""A database of each kind of store, its writer and a reader."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.domain import block_grid
from app.domain.interval import MINUTE_MS
from app.ports.coordination import ChangeFeed
from tests.sqlite.material import FixedClock
from tests.stores.databases import DATABASES, Database, OpenReader, OpenWriter


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four minutes, so that a test's few rows form some."""
    monkeypatch.setattr(block_grid, "OF_MINUTES_MS", 4 * MINUTE_MS)


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
