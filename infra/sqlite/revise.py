"""Migration of an older database file to the schema of this version, with Alembic's revisions in migrations/."""

from pathlib import Path

from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

import migrations
from app.ports.errors import SchemaTooNew
from infra.sqlite.connections import NO_CHECKPOINTS
from infra.sqlite.failure import unavailable
from infra.sqlite.library import sqlite3
from migrations.revisions import config_of, revisions


def revise(path: Path, busy_timeout_ms: int) -> None:
    """Apply the revisions that the database at `path` lacks, in one transaction.

    Blocks; called by infra.sqlite.migrate. Raises StoreUnavailable or SchemaTooNew.
    """
    engine = _engine(path, busy_timeout_ms)
    try:
        with engine.begin() as connection:
            _upgrade(connection, path)
    except DBAPIError as error:
        cause = error.orig
        raise (isinstance(cause, sqlite3.Error) and unavailable(cause, path)) or error from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection, path: Path) -> None:
    config = config_of(migrations)
    config.attributes["connection"] = connection
    _, known = revisions(config)
    stored = MigrationContext.configure(connection).get_current_revision()
    if stored is not None and stored not in known:
        raise SchemaTooNew(
            f"the database {path} has schema revision {stored}, which this version of klinenode does not know: a newer "
            "version wrote it. Start that version, or put back a copy of the file from before its upgrade, or point "
            "DB_URL at another file."
        )
    command.upgrade(config, "head")


def _engine(path: Path, busy_timeout_ms: int) -> Engine:
    engine = create_engine(
        "sqlite://",
        module=sqlite3,
        creator=lambda: sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_ms / 1000),
        poolclass=NullPool,
    )

    @event.listens_for(engine, "connect")
    def use_wal(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(NO_CHECKPOINTS)
        connection.execute("PRAGMA journal_mode = wal")  # persistent in the file; not possible inside a transaction

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 itself would begin only after the first CREATE TABLE

    return engine
