"""A look at a database of Postgres that changes nothing: one short session, no lease, no schema upgraded."""

from typing import Any

import asyncpg

import migrations.postgres
from app.ports.probes import StoreFacts
from infra.postgres.connections import CONNECT_S_MAX
from infra.postgres.failure import unavailable
from infra.postgres.url import place
from migrations.revisions import config_of, revisions


async def examine(url: str) -> StoreFacts:
    """The facts of the database of `url`."""
    where = f"the database {place(url)}"
    newest, known = revisions(config_of(migrations.postgres))
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_S_MAX, server_settings={"application_name": "klinenode doctor"}
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return StoreFacts(where, exists=False, failed=str(unavailable(error, place(url)) or error))
    try:
        schema = await _row(connection, "alembic_version", "SELECT version_num FROM alembic_version")
        stand_down = await _row(connection, "stand_down", "SELECT until_ms, reason FROM stand_down")
        is_standby = await connection.fetchval("SELECT pg_is_in_recovery()")
        may_create = await connection.fetchval(
            "SELECT has_schema_privilege(current_user, coalesce(current_schema(), 'public'), 'CREATE')"
        )
        size_bytes = await connection.fetchval("SELECT pg_database_size(current_database())")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return StoreFacts(where, exists=True, failed=str(unavailable(error, place(url)) or error))
    finally:
        await connection.close()
    stored = None if schema is None else str(schema[0])
    failed = (
        None if may_create or is_standby else f"{where} does not permit this user to make tables; make it the owner"
    )
    return StoreFacts(
        where,
        exists=True,
        failed=failed,
        schema=stored,
        newest=newest,
        is_known=stored is None or stored in known,
        is_read_only=bool(is_standby),
        size_bytes=int(size_bytes),
        stand_down=None if stand_down is None else (int(stand_down[0]), str(stand_down[1])),
    )


async def _row(connection: asyncpg.Connection, table: str, query: str) -> Any:
    """The first row of a query; None if there is none, or no such table."""
    named = await connection.fetchval("SELECT to_regclass($1)", table)
    return None if named is None else await connection.fetchrow(query)
