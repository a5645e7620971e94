"""What the contract suite needs of a store: to open it, and to look past it."""

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
    """A replaced row as the store keeps it."""

    symbol: str
    interval: str
    row: Kline
    old_source: str
    new_source: str
    replaced_at_ms: int


class OpenReader(StoreReader, Protocol):
    """A reader that is open."""

    async def close(self) -> None: ...


class OpenWriter(StoreWriter, OpenReader, Protocol):
    """A writer that is open."""


class Database(Protocol):
    """An empty database of one kind of store. A new store adds one of these to DATABASES."""

    @classmethod
    async def made(cls, folder: Path) -> Self:
        """A new one, whose files, if it has any, lie in `folder`."""
        ...

    async def writer(self, clock: Clock) -> OpenWriter:
        """A writer, which deposes those opened before."""
        ...

    async def reader(self) -> OpenReader:
        """A reader."""
        ...

    def change_feed(self) -> ChangeFeed:
        """What the writer commits."""
        ...

    def remember(self, changes: int, patch: pytest.MonkeyPatch) -> None:
        """Let it remember that many changes only."""
        ...

    def revisions(self) -> list[Revised]:
        """Every replaced row, oldest first."""
        ...

    def forget_ledger(self) -> None:
        """Delete every ledger line, as somebody might by hand."""
        ...


class SqliteDatabase:
    """A file."""

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
