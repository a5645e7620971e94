"""Migration of a Postgres database to this version's schema, with Alembic's revisions in migrations/postgres/."""

from functools import partial
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import migrations.postgres
from app.ports.errors import SchemaTooNew, StoreUnavailable
from infra.postgres.failure import unavailable
from infra.postgres.hypertables import timescale_schema
from infra.postgres.migrate import connect
from infra.postgres.url import place
from infra.stores.move_mark import CREATE_MARK
from migrations.revisions import config_of, revisions

MIGRATION_LOCK: Final = 0x6B6C_696E_6501
"""The key of the advisory lock that two nodes do not migrate at once by."""
LOCK_S_MAX: Final = 60  # another node may be migrating


async def revise(url: str, *, timescale: bool, moved_from: str | None = None) -> None:
    """Apply the revisions that the database of `url` lacks; infra.postgres.migrate says more, and calls it."""
    where = place(url)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=partial(connect, url), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_S_MAX}s'"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            if (encoding := (await connection.execute(text("SHOW server_encoding"))).scalar()) != "UTF8":
                raise StoreUnavailable(
                    f"the database {where} has the encoding {encoding}, in which not every symbol can be written; "
                    "create it with ENCODING 'UTF8' TEMPLATE template0"
                )
            await connection.run_sync(_upgrade, where, timescale, moved_from)
    except DBAPIError as error:
        raise unavailable(_cause(error), where) or error from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise unavailable(error, where) or error from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, where: str, timescale: bool, moved_from: str | None) -> None:
    config = config_of(migrations.postgres)
    config.attributes["connection"] = connection
    _, known = revisions(config)
    stored = MigrationContext.configure(connection).get_current_revision()
    if stored is not None and stored not in known:
        raise SchemaTooNew(
            f"the database {where} has schema revision {stored}, which this version of klinenode does not know: a "
            "newer version wrote it. Start that version, or restore a backup from before its upgrade, or point DB_URL "
            "at another database."
        )
    config.attributes["timescale_schema"] = timescale_schema(
        connection, where, is_empty=stored is None, is_wanted=timescale
    )
    command.upgrade(config, "head")
    if stored is None and moved_from is not None:
        connection.execute(text(CREATE_MARK))
        connection.execute(text("INSERT INTO migrate_store VALUES (:source)"), {"source": moved_from})


def _cause(error: DBAPIError) -> BaseException:
    """The error of asyncpg that SQLAlchemy has wrapped twice."""
    cause: Any = error.orig
    return cause.__cause__ if cause is not None and cause.__cause__ is not None else error
