"""Whether a Postgres database has the schema of this version; only if it does not, infra.postgres.revise is imported.

Alembic and SQLAlchemy take half a second of processor time to import.
"""

from pathlib import Path
from typing import Final

import asyncpg

import migrations.postgres
from infra.postgres.connections import CONNECT_S_MAX
from infra.postgres.failure import unavailable
from infra.postgres.url import place

HEAD: Final = max(file.name[:4] for file in Path(migrations.postgres.__path__[0], "versions").glob("[0-9]*.py"))
"""The newest revision."""


async def upgrade(url: str, *, timescale: bool = False, moved_from: str | None = None) -> None:
    """Apply the missing revisions to the database of `url`, which must exist, in one transaction.

    `timescale`: in an empty database the tables of rows are made hypertables. `moved_from`: in the same transaction an
    empty database is marked as the unfinished target of a move from there. Only the writer calls it. Raises
    ValueError (not a Postgres URL), StoreUnavailable, StoreUnusable (no hypertables can be had) or SchemaTooNew.
    """
    if timescale or not await _is_current(url):  # whether the tables are hypertables is checked there
        from infra.postgres.revise import revise

        await revise(url, timescale=timescale, moved_from=moved_from)


async def _is_current(url: str) -> bool:
    where = place(url)
    try:
        connection = await connect(url)
        try:
            if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                return False
            return bool(await connection.fetchval("SELECT version_num FROM alembic_version") == HEAD)
        finally:
            await connection.close(timeout=CONNECT_S_MAX)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unavailable(error, where) or error from error


async def connect(url: str) -> asyncpg.Connection:
    """A connection for looking at the schema or revising it. Raises OSError and asyncpg's errors."""
    return await asyncpg.connect(url, timeout=CONNECT_S_MAX, server_settings={"application_name": "klinenode"})
