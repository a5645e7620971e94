"""What the contract suite needs of each kind of store: opening it, and looking into it from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import pytest

from app.domain.kline import Kline
from app.ports.clock import Clock
from app.ports.coordination import ChangeFeed
from app.ports.store import StoreReader, StoreWriter
from infra.sqlite import changes as sqlite_changes
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter

BUSY_TIMEOUT_MS = 50


class Revised(NamedTuple):
    """A replaced row, as the store keeps it."""

    symbol: str
    interval: str
    row: Kline
    old_source: str
    new_source: str
    replaced_at_ms: int


class OpenReader(StoreReader, Protocol):
    """An open reader, which can be closed."""

    async def close(self) -> None: ...


class OpenWriter(StoreWriter, OpenReader, Protocol):
    """An open writer, which can be closed."""


class Database(Protocol):
    """An empty database of one kind of store. For a new store, add an implementation to DATABASES."""

    @classmethod
    async def made(cls, folder: Path) -> Self:
        """Create one; its files, if any, are in `folder`."""
        ...

    async def writer(self, clock: Clock) -> OpenWriter:
        """Open a writer, which deposes those opened before."""
        ...

    async def reader(self) -> OpenReader:
        """Open a reader."""
        ...

    def change_feed(self) -> ChangeFeed:
        """The feed of the writer's commits."""
        ...

    def remember(self, changes: int, patch: pytest.MonkeyPatch) -> None:
        """Let the store keep only `changes` changes for its feed."""
        ...

    def revisions(self) -> list[Revised]:
        """Every replaced row, oldest first."""
        ...

    def forget_ledger(self) -> None:
        """Delete all ledger lines, as somebody might do by hand."""
        ...


class SqliteDatabase:
    """A SQLite database file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._url = f"sqlite:///{file}"

    @classmethod
    async def made(cls, folder: Path) -> Self:
        return cls(folder / "klinenode.db")

    async def writer(self, clock: Clock) -> SqliteWriter:
        return await SqliteWriter.open(self._url, clock, busy_timeout_ms=BUSY_TIMEOUT_MS)

    async def reader(self) -> SqliteReader:
        return SqliteReader(self._url, busy_timeout_ms=BUSY_TIMEOUT_MS)

    def change_feed(self) -> SqliteChangeFeed:
        return SqliteChangeFeed(self._url, busy_timeout_ms=BUSY_TIMEOUT_MS)

    def remember(self, changes: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(sqlite_changes, "CHANGES_KEPT", changes)

    def revisions(self) -> list[Revised]:
        with closing(sqlite3.connect(self._file)) as connection:
            found = connection.execute("SELECT * FROM revision ORDER BY id").fetchall()
        return [Revised(row[1], row[2], Kline(*row[3:13]), row[13], row[14], row[15]) for row in found]

    def forget_ledger(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection, connection:
            connection.execute("DELETE FROM ledger")


DATABASES: dict[str, type[Database]] = {"sqlite": SqliteDatabase}
