"""A look at a database of Postgres that changes nothing: one short read-only transaction, no lease, no upgrade."""

from typing import Any, Final

import asyncpg

import migrations.postgres
from app.ports.probes import PostgresFacts, StoreFacts
from infra.postgres.connections import CONNECT_S_MAX
from infra.postgres.failure import unavailable
from infra.postgres.hypertables import VERSION_MIN as TIMESCALE_MIN
from infra.postgres.hypertables import number_of
from infra.postgres.reach import VERSION_MIN
from infra.postgres.url import place
from migrations.revisions import config_of, revisions

FAULTS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_SERVER: Final = """
SELECT pg_backend_pid() AS pid,
    current_setting('server_version_num')::int / 10000 AS version,
    current_setting('server_encoding') AS encoding,
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' AS is_durable,
    pg_is_in_recovery() AS is_standby,
    has_schema_privilege(current_user, coalesce(current_schema(), 'public'), 'CREATE') AS may_create,
    pg_database_size(current_database()) AS size_bytes,
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name NOT LIKE 'klinenode%') AS connections_used,
    (SELECT pg_get_userbyid(relowner) FROM pg_class
        WHERE oid = to_regclass('alembic_version') AND NOT pg_has_role(relowner, 'USAGE')) AS owner,
    (SELECT coalesce(installed_version, default_version) FROM pg_available_extensions
        WHERE name = 'timescaledb') AS timescale,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS has_timescale,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int AS for_all,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS for_user,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS for_database
"""
"""A limit of -1 is none."""
_HYPERTABLES: Final = (
    "SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema())"
)


async def examine(url: str) -> StoreFacts:
    """The facts of the database of `url`."""
    where = f"the database {place(url)}"
    try:
        connection = await connected(url)
    except FAULTS as error:
        return StoreFacts(where, exists=False, failed=str(unavailable(error, place(url)) or error))
    try:
        async with connection.transaction(readonly=True):  # a pooler stays with one session for a transaction
            return await _facts(connection, where)
    except FAULTS as error:
        return StoreFacts(where, exists=True, failed=str(unavailable(error, place(url)) or error))
    finally:
        await connection.close()


async def connected(url: str) -> asyncpg.Connection:
    """A connection that works through a pooler too. Raises FAULTS."""
    return await asyncpg.connect(
        url,
        timeout=CONNECT_S_MAX,
        statement_cache_size=0,
        server_settings={"application_name": "klinenode doctor"},
    )


async def _facts(connection: asyncpg.Connection, where: str) -> StoreFacts:
    newest, known = revisions(config_of(migrations.postgres))
    found = await connection.fetchrow(_SERVER)
    schema = await _row(connection, "alembic_version", "SELECT version_num FROM alembic_version")
    stand_down = await _row(connection, "stand_down", "SELECT until_ms, reason FROM stand_down")
    has_hypertables = bool(found["has_timescale"] and await connection.fetchval(_HYPERTABLES))
    stored = None if schema is None else str(schema[0])
    is_standby = bool(found["is_standby"])
    return StoreFacts(
        where,
        exists=True,
        failed=None
        if found["may_create"] or is_standby
        else f"{where} does not permit this user to make tables; make it the owner",
        schema=stored,
        newest=newest,
        is_known=stored is None or stored in known,
        is_read_only=is_standby,
        size_bytes=int(found["size_bytes"]),
        stand_down=None if stand_down is None else (int(stand_down[0]), str(stand_down[1])),
        server=_server(found, has_hypertables, found["pid"] != connection.get_server_pid()),
    )


def _server(found: asyncpg.Record, has_hypertables: bool, is_pooled: bool) -> PostgresFacts:
    limits = [found["for_all"], found["for_user"], found["for_database"]]
    timescale = found["timescale"]
    return PostgresFacts(
        version=found["version"],
        version_min=VERSION_MIN,
        is_pooled=is_pooled,
        encoding=found["encoding"],
        is_durable=found["is_durable"],
        owner=found["owner"],
        connections_max=min(limit for limit in limits if limit >= 0),
        connections_used=found["connections_used"],
        timescale=timescale,
        timescale_min=".".join(map(str, TIMESCALE_MIN)),
        is_timescale_old=timescale is not None and number_of(timescale) < TIMESCALE_MIN,
        has_hypertables=has_hypertables,
    )


async def _row(connection: asyncpg.Connection, table: str, query: str) -> Any:
    """The first row of a query; None if there is none, or no such table."""
    named = await connection.fetchval("SELECT to_regclass($1)", table)
    return None if named is None else await connection.fetchrow(query)
