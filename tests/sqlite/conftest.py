"""A database file, its writer and a reader."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import FixedClock


@pytest.fixture
def db_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "klinenode.db"


@pytest.fixture
def url(db_file: Path) -> str:
    return f"sqlite:///{db_file}"


@pytest.fixture
async def writer(url: str) -> AsyncIterator[SqliteWriter]:
    store = await SqliteWriter.open(url, FixedClock(), busy_timeout_ms=50)
    yield store
    await store.close()


@pytest.fixture
async def reader(writer: SqliteWriter, url: str) -> AsyncIterator[SqliteReader]:
    store = SqliteReader(url, busy_timeout_ms=50)
    yield store
    await store.close()


@pytest.fixture
async def feed(writer: SqliteWriter, url: str) -> AsyncIterator[SqliteChangeFeed]:
    found = SqliteChangeFeed(url, busy_timeout_ms=50)
    yield found
    await found.close()
