"""What the contract suite needs of each kind of store: opening it, and looking into it from outside."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

import pytest

from app.domain.block_grid import block_span
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span
from app.domain.store_rules import Batch
from app.ports.clock import Clock
from app.ports.coordination import ChangeFeed
from app.ports.store import EVERYTHING, Committed, StoreReader, StoreWriter
from infra.blocks.block import Block, pack
from infra.sqlite import changes as sqlite_changes
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import klines

BUSY_TIMEOUT_MS = 50


Damage = Literal["flipped", "truncated", "another", "elsewhere"]


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

    def blocks(self, series: Series) -> list[tuple[int, int]]:
        """The sealed blocks of a series: start in ms and number of rows."""
        ...

    def damage(self, series: Series, start_ms: int, how: Damage) -> None:
        """Change a block: flip a bit of it, truncate it, or replace it by one with other rows or by a later one."""
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

    def blocks(self, series: Series) -> list[tuple[int, int]]:
        select = "SELECT start_ms, rows FROM block WHERE symbol = ? AND interval = ? ORDER BY start_ms"
        with closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(select, (series.name, series.interval.code)).fetchall()

    def damage(self, series: Series, start_ms: int, how: Damage) -> None:
        where = (series.name, series.interval.code, start_ms)
        with closing(sqlite3.connect(self._file)) as connection, connection:
            select = "SELECT body FROM block WHERE symbol = ? AND interval = ? AND start_ms = ?"
            [body] = connection.execute(select, where).fetchone()
            if how == "flipped":
                changed = body[:-40] + bytes([body[-40] ^ 8]) + body[-39:]
            elif how == "truncated":
                changed = body[:-1]
            elif how == "another":
                changed = _other(body, series, start_ms)
            else:
                later = "SELECT body FROM block WHERE symbol = ? AND interval = ? AND start_ms > ?"
                [changed] = connection.execute(later, where).fetchone()
            update = "UPDATE block SET body = ? WHERE symbol = ? AND interval = ? AND start_ms = ?"
            connection.execute(update, (changed, *where))


def _other(body: bytes, series: Series, start_ms: int) -> bytes:
    """A block of the same span with other rows."""
    grid, opens_ms = series.interval.grid, Block(body).opens_ms()
    rows = klines([Span(open_ms, open_ms + 1) for open_ms in opens_ms], grid, mark=7)
    texts = [series.kind.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows]
    return pack(texts, opens_ms, block_span(series.interval, start_ms), grid.step_ms).body


class _Sealing(SqliteWriter):
    """A writer that seals everything that can be sealed after each commit."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        committed = await super().commit(batches)
        for batch in batches:
            next_ms: int | None = 0
            while next_ms is not None:
                next_ms = (await self.seal(batch.series, Span(next_ms, EVERYTHING.end_ms))).next_ms
        return committed


class SealedDatabase(SqliteDatabase):
    """A file whose rows are sealed as soon as they can be."""

    async def writer(self, clock: Clock) -> SqliteWriter:
        return await _Sealing.open(self._url, clock, busy_timeout_ms=BUSY_TIMEOUT_MS)


DATABASES: dict[str, type[Database]] = {"sqlite": SqliteDatabase, "sealed": SealedDatabase}
