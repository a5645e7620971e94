"""The tables of a SQLite database, to be moved (app.ports.contents)."""

import asyncio
from collections.abc import Sequence
from typing import Self

from app.ports.contents import OF_THE_DATABASE, ContentsTable, RowOfTable
from infra.sqlite.connections import BUSY_TIMEOUT_MS, Connections
from infra.sqlite.failure import unavailable
from infra.sqlite.fence import fenced, take_over
from infra.sqlite.library import sqlite3
from infra.sqlite.statements import writing
from infra.sqlite.url import sqlite_path
from infra.stores.move_mark import CREATE_MARK


class SqliteContents:
    """See Contents in app/ports/contents.py."""

    def __init__(self, connections: Connections) -> None:
        """Called by `open`."""
        self._connections = connections

    @classmethod
    async def open(cls, url: str) -> Self:
        """Take over the database of `url`, whose lease the caller holds. Raises StoreUnavailable."""
        path = sqlite_path(url)
        try:
            epoch = await asyncio.to_thread(take_over, path, BUSY_TIMEOUT_MS)
        except sqlite3.Error as error:
            raise unavailable(error, path) or error from error
        return cls(Connections(path, size=1, read_only=False, carries=(fenced(epoch),)))

    async def begun(self) -> str | None:
        """From where an unfinished move into this database comes. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> str | None:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrate_store'").fetchone():
                return None
            found: str = connection.execute("SELECT source FROM migrate_store").fetchone()[0]
            return found

        return await self._connections.run(work)

    async def begin(self, source: str) -> None:
        """Note that a move from `source` is under way. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> None:
            with writing(connection):
                connection.execute(CREATE_MARK)
                connection.execute("INSERT INTO migrate_store VALUES (?)", (source,))

        await self._connections.run(work)

    async def finish(self) -> None:
        """Note that the move has ended. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> None:
            with writing(connection):
                connection.execute("DROP TABLE migrate_store")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._connections.run(work)

    async def tables(self) -> list[ContentsTable]:
        """All tables that are moved, sorted by name. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> list[ContentsTable]:
            select = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            names = sorted(name for (name,) in connection.execute(select) if name not in OF_THE_DATABASE)
            return [_described(connection, name) for name in names]

        return await self._connections.run(work)

    async def count(self, table: ContentsTable) -> int:
        """The number of rows. Raises StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> int:
            found: int = connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]  # noqa: S608
            return found

        return await self._connections.run(work)

    async def last_key(self, table: ContentsTable) -> RowOfTable | None:
        """The key of the last row. Raises StoreUnavailable."""
        order = ", ".join(f"{name} DESC" for name in table.key)
        select = f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {order} LIMIT 1"  # noqa: S608
        return await self._connections.run(lambda connection: connection.execute(select).fetchone())

    async def rows(self, table: ContentsTable, after: RowOfTable | None, number: int) -> Sequence[RowOfTable]:
        """The next `number` rows behind the key `after`. Raises StoreUnavailable."""
        key, asked = ", ".join(table.key), ", ".join("?" * len(table.key))
        behind = f"WHERE ({key}) > ({asked})" if after is not None else ""
        select = f"SELECT {', '.join(table.columns)} FROM {table.name} {behind} ORDER BY {key} LIMIT ?"  # noqa: S608
        return await self._connections.run(
            lambda connection: connection.execute(select, (*(after or ()), number)).fetchall()
        )

    async def add(self, table: ContentsTable, rows: Sequence[RowOfTable]) -> None:
        """Insert rows in one transaction. Raises StoreUnavailable."""
        values = ", ".join("?" * len(table.columns))
        insert = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({values})"  # noqa: S608

        def work(connection: sqlite3.Connection) -> None:
            with writing(connection):
                connection.executemany(insert, rows)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

        await self._connections.run(work)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _described(connection: sqlite3.Connection, name: str) -> ContentsTable:
    found = connection.execute(f"PRAGMA table_info({name})").fetchall()
    key = [(place, column) for _, column, _, _, _, place in found if place]
    return ContentsTable(name, tuple(column for _, column, *_ in found), tuple(column for _, column in sorted(key)))
