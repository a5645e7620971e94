"""What the contract suite needs of each kind of store: opening it, and looking into it from outside."""

import asyncio
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import pytest

from app.domain.block_grid import block_span
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span
from app.domain.store_rules import Batch
from app.ports.clock import Clock
from app.ports.coordination import ChangeFeed, Changes
from app.ports.store import EVERYTHING, Committed, StoreReader, StoreWriter
from infra.blocks.block import Block, pack
from infra.postgres import changes as postgres_changes
from infra.postgres.change_feed import PostgresChangeFeed
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.sqlite import changes as sqlite_changes
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.postgres_server import fresh_database, on_connection, server_url
from tests.sqlite.material import FixedClock, klines
from tests.timescale_server import empty_tables, fresh_schema, timescale_url

BUSY_TIMEOUT_MS = 50


Damage = Literal["flipped", "text", "truncated", "another", "elsewhere"]


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

    histories: ClassVar[int]
    """How many databases one test may make of it."""

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

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT that every kind of store understands."""
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

    histories: ClassVar[int] = 60

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

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(statement).fetchall()

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
            select = "SELECT body FROM block WHERE symbol = ? AND interval = ? AND start_ms > ?"
            later = [body for (body,) in connection.execute(select, where)]
            changed = _damaged(body, series, start_ms, how, later)
            new = "CAST(? AS TEXT)" if how == "text" else "?"
            update = f"UPDATE block SET body = {new} WHERE symbol = ? AND interval = ? AND start_ms = ?"
            connection.execute(update, (changed, *where))


def _damaged(body: bytes, series: Series, start_ms: int, how: Damage, later: Sequence[bytes]) -> bytes:
    """What `how` makes of the `body` of a block; `later` are the bodies of later ones."""
    if how in ("flipped", "text"):  # where a value's type can be damaged too, it is as well
        return body[:-40] + bytes([body[-40] ^ 8]) + body[-39:]
    if how == "truncated":
        return body[:-1]
    return _other(body, series, start_ms) if how == "another" else later[0]


def _other(body: bytes, series: Series, start_ms: int) -> bytes:
    """A block of the same span with other rows."""
    grid, opens_ms = series.interval.grid, Block(body).opens_ms()
    rows = klines([Span(open_ms, open_ms + 1) for open_ms in opens_ms], grid, mark=7)
    texts = [series.kind.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows]
    return pack(texts, opens_ms, block_span(series.interval, start_ms), grid.step_ms).body


class _SqliteSealing(SqliteWriter):
    """A writer that seals everything that can be sealed after each commit."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        committed = await super().commit(batches)
        await _seal_all(self, batches)
        return committed


async def _seal_all(writer: OpenWriter, batches: Sequence[Batch]) -> None:
    for batch in batches:
        next_ms: int | None = 0
        while next_ms is not None:
            next_ms = (await writer.seal(batch.series, Span(next_ms, EVERYTHING.end_ms))).next_ms


class SealedSqliteDatabase(SqliteDatabase):
    """A file whose rows are sealed as soon as they can be."""

    async def writer(self, clock: Clock) -> SqliteWriter:
        return await _SqliteSealing.open(self._url, clock, busy_timeout_ms=BUSY_TIMEOUT_MS)


class PostgresDatabase:
    """A database of the server that the tests of this process share; it is created with its first writer."""

    histories: ClassVar[int] = 60

    def __init__(self, template: str) -> None:
        self._template = template
        self._url = server_url("none_yet")
        self._is_made = False

    @classmethod
    async def made(cls, folder: Path) -> Self:
        return cls(await migrated_template())

    async def writer(self, clock: Clock) -> PostgresWriter:
        await self._make()
        return await PostgresWriter.open(self._url, clock)

    async def _make(self) -> None:
        if not self._is_made:
            self._url, self._is_made = await fresh_database(template=self._template), True

    async def reader(self) -> PostgresReader:
        return PostgresReader(self._url)

    def change_feed(self) -> ChangeFeed:
        return _Feed(self)

    def remember(self, changes: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(postgres_changes, "CHANGES_KEPT", changes)

    def revisions(self) -> list[Revised]:
        found = self.fetch("SELECT * FROM revision ORDER BY id")
        return [Revised(row[1], row[2], Kline(*row[3:13]), row[13], row[14], row[15]) for row in map(tuple, found)]

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        return list(map(tuple, self.fetch(statement)))

    def forget_ledger(self) -> None:
        self.fetch("DELETE FROM ledger")

    def blocks(self, series: Series) -> list[tuple[int, int]]:
        select = "SELECT start_ms, rows FROM block WHERE symbol = $1 AND interval = $2 ORDER BY start_ms"
        return list(map(tuple, self.fetch(select, series.name, series.interval.code)))

    def damage(self, series: Series, start_ms: int, how: Damage) -> None:
        of_series = "symbol = $1 AND interval = $2 AND start_ms"
        where = (series.name, series.interval.code, start_ms)
        [(body,)] = self.fetch(f"SELECT body FROM block WHERE {of_series} = $3", *where)
        later = [body for (body,) in self.fetch(f"SELECT body FROM block WHERE {of_series} > $3", *where)]
        changed = _damaged(body, series, start_ms, how, later)
        self.fetch(f"UPDATE block SET body = $4 WHERE {of_series} = $3", *where, changed)

    def fetch(self, statement: str, *values: object) -> list[Any]:
        """Execute a statement, from outside of the running loop."""
        work = on_connection(self._url, lambda connection: connection.fetch(statement, *values))
        with ThreadPoolExecutor(1) as pool:
            found: list[Any] = pool.submit(asyncio.run, work).result()
        return found


class _Feed(PostgresChangeFeed):
    """The feed of a database that may be created after it."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database._url)
        self._database = database

    async def changes(self, after: int | None) -> Changes:
        self._db_url = self._database._url
        return await super().changes(after)


class _PostgresSealing(PostgresWriter):
    """A writer that seals everything that can be sealed after each commit."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        committed = await super().commit(batches)
        await _seal_all(self, batches)
        return committed


class SealedPostgresDatabase(PostgresDatabase):
    """A database whose rows are sealed as soon as they can be."""

    async def writer(self, clock: Clock) -> PostgresWriter:
        await self._make()
        return await _PostgresSealing.open(self._url, clock)


class TimescaleDatabase(PostgresDatabase):
    """A schema of the TimescaleDB that the tests of this process share, with hypertables.

    Its tables take a second to make, so they are emptied for another database when this one is no longer used.
    """

    histories: ClassVar[int] = 10
    _unused: ClassVar[list[str]] = []

    @classmethod
    async def made(cls, folder: Path) -> Self:
        timescale_url()  # skips the test if there is none
        return cls("")

    async def writer(self, clock: Clock) -> PostgresWriter:
        await self._make()
        return await PostgresWriter.open(self._url, clock, timescale=True)

    async def _make(self) -> None:
        if not self._is_made:
            if self._unused:
                self._url = self._unused.pop()
                await empty_tables(self._url)
            else:
                self._url = await fresh_schema(is_kept=True)
            self._is_made = True
            weakref.finalize(self, self._unused.append, self._url)


_templates: dict[str, str] = {}


async def migrated_template() -> str:
    """The name of a database of the shared server that has klinenode's tables, to make others of."""
    if (server := server_url()) not in _templates:
        url = await fresh_database(is_kept=True)
        await (await PostgresWriter.open(url, FixedClock())).close()
        _templates[server] = urlsplit(url).path[1:]
    return _templates[server]


DATABASES: dict[str, type[Database]] = {
    "sqlite": SqliteDatabase,
    "sealed": SealedSqliteDatabase,
    "postgres": PostgresDatabase,
    "postgres-sealed": SealedPostgresDatabase,
    "timescale": TimescaleDatabase,
}
