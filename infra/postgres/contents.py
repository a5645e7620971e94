"""The tables of a Postgres database, to be moved (app.ports.contents)."""

from collections.abc import Sequence
from typing import Final, Self

import asyncpg

from app.ports.contents import OF_THE_DATABASE, ContentsTable, RowOfTable
from infra.postgres.connections import Connections
from infra.postgres.fence import Fence
from infra.postgres.partitions import make_partitions
from infra.stores.move_mark import CREATE_MARK

_TABLES: Final = """
SELECT relname, array_agg(attname::text ORDER BY attnum), (
    SELECT array_agg(columns.attname::text ORDER BY place)
    FROM pg_index, unnest(indkey::smallint[]) WITH ORDINALITY AS keys (number, place)
    JOIN pg_attribute AS columns ON columns.attrelid = class.oid AND columns.attnum = number
    WHERE indrelid = class.oid AND indisprimary
)
FROM pg_class AS class JOIN pg_attribute ON attrelid = class.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
GROUP BY class.oid, relname
"""
_IDENTITIES: Final = """
SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = current_schema()::regnamespace AND attidentity <> ''
"""
_OPEN_TIME: Final = "open_time"


class PostgresContents:
    """See Contents in app/ports/contents.py."""

    def __init__(self, url: str) -> None:
        """Called by `open`."""
        self._connections = Connections(url, size=1, is_read_only=False)
        self._fence = Fence(lambda: None)
        self._partitions_end_ms = 0

    @classmethod
    async def open(cls, url: str) -> Self:
        """Take over the database of `url`, whose lease the caller holds. Raises StoreUnavailable."""
        contents = cls(url)
        try:
            await contents._connections.run(contents._fence.take_over)
        except BaseException:
            await contents.close()
            raise
        return contents

    async def begun(self) -> str | None:
        """From where an unfinished move into this database comes. Raises StoreUnavailable."""

        async def work(connection: asyncpg.Connection) -> str | None:
            if await connection.fetchval("SELECT to_regclass('migrate_store')") is None:
                return None
            found: str = await connection.fetchval("SELECT source FROM migrate_store")
            return found

        return await self._connections.run(work)

    async def begin(self, source: str) -> None:
        """Note that a move from `source` is under way. Raises StoreUnavailable."""

        async def work(connection: asyncpg.Connection) -> None:
            async with self._fence.writing(connection):
                await connection.execute(CREATE_MARK)
                await connection.execute("INSERT INTO migrate_store VALUES ($1)", source)

        await self._connections.run(work)

    async def finish(self) -> None:
        """Note that the move has ended, and that numbers go on behind the moved ones. Raises StoreUnavailable."""

        async def work(connection: asyncpg.Connection) -> None:
            async with self._fence.writing(connection):
                for table, column in await connection.fetch(_IDENTITIES):
                    last = f"(SELECT coalesce(max({column}), 0) + 1 FROM {table})"
                    await connection.execute(
                        f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {last}, false)"
                    )
                await connection.execute("DROP TABLE migrate_store")
            await connection.execute("ANALYZE")

        await self._connections.run(work)

    async def tables(self) -> list[ContentsTable]:
        """All tables that are moved, sorted by name. Raises StoreUnavailable."""
        found = await self._connections.run(lambda connection: connection.fetch(_TABLES))
        tables = [ContentsTable(name, tuple(columns), tuple(key or columns)) for name, columns, key in found]
        return sorted(table for table in tables if table.name not in OF_THE_DATABASE)

    async def count(self, table: ContentsTable) -> int:
        """The number of rows. Raises StoreUnavailable."""
        found: int = await self._connections.run(
            lambda connection: connection.fetchval(f"SELECT count(*) FROM {table.name}")
        )
        return found

    async def last_key(self, table: ContentsTable) -> RowOfTable | None:
        """The key of the last row. Raises StoreUnavailable."""
        order = ", ".join(f"{name} DESC" for name in table.key)
        select = f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {order} LIMIT 1"
        row = await self._connections.run(lambda connection: connection.fetchrow(select))
        return None if row is None else tuple(row)

    async def rows(self, table: ContentsTable, after: RowOfTable | None, number: int) -> Sequence[RowOfTable]:
        """The next `number` rows behind the key `after`. Raises StoreUnavailable."""
        key, asked = ", ".join(table.key), ", ".join(f"${place}" for place in range(2, len(table.key) + 2))
        behind = f"WHERE ({key}) > ({asked})" if after is not None else ""
        select = f"SELECT {', '.join(table.columns)} FROM {table.name} {behind} ORDER BY {key} LIMIT $1"
        found = await self._connections.run(lambda connection: connection.fetch(select, number, *(after or ())))
        return list(map(tuple, found))

    async def add(self, table: ContentsTable, rows: Sequence[RowOfTable]) -> None:
        """Insert rows in one transaction. Raises StoreUnavailable."""

        async def work(connection: asyncpg.Connection) -> None:
            async with self._fence.writing(connection):
                await self._make_room(connection, table, rows)
                await connection.copy_records_to_table(table.name, records=rows, columns=table.columns)

        await self._connections.run(work)

    async def _make_room(
        self, connection: asyncpg.Connection, table: ContentsTable, rows: Sequence[RowOfTable]
    ) -> None:
        """Make the partitions of the rows."""
        if _OPEN_TIME not in table.columns:
            return
        place = table.columns.index(_OPEN_TIME)
        newest_ms = max(int(row[place] or 0) for row in rows)
        if newest_ms >= self._partitions_end_ms:
            self._partitions_end_ms = await make_partitions(connection, newest_ms)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()
