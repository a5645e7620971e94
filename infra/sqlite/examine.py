"""A look at a database file that changes nothing: no lock is left, no file is made, no schema upgraded."""

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import migrations
from app.ports.probes import StoreFacts
from infra.sqlite.failure import unavailable
from infra.sqlite.library import sqlite3
from infra.sqlite.url import sqlite_path
from migrations.revisions import config_of, revisions


def examine(url: str) -> StoreFacts:
    """The facts of the database of `url`. Blocks for milliseconds."""
    path = sqlite_path(url)
    if path.is_dir():
        return StoreFacts(str(path), exists=True, failed=f"DB_URL names {path}, which is a folder; add a file's name")
    newest, known = revisions(config_of(migrations))
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return StoreFacts(str(path), exists=False, newest=newest)
    except OSError as error:
        return StoreFacts(str(path), exists=True, failed=f"the database {path} cannot be seen: {error.strerror}")
    try:
        with closing(sqlite3.connect(_uri(path), uri=True, isolation_level=None, timeout=1.0)) as connection:
            schema = _value(connection, "alembic_version", "SELECT version_num FROM alembic_version")
            stand_down = _row(connection, "stand_down", "SELECT until_ms, reason FROM stand_down")
    except sqlite3.Error as error:
        return StoreFacts(str(path), exists=True, failed=str(unavailable(error, path) or error))
    return StoreFacts(
        str(path),
        exists=True,
        schema=schema,
        newest=newest,
        is_known=schema is None or schema in known,
        size_bytes=size_bytes,
        stand_down=stand_down,
    )


def _uri(path: Path) -> str:
    """The file as it is: without a log nobody has it open, and `immutable` makes no log and no shared memory."""
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    return f"file:{quote(str(path))}?{'mode=ro' if has_log else 'mode=ro&immutable=1'}"


def _value(connection: sqlite3.Connection, table: str, query: str) -> str | None:
    row = _row(connection, table, query)
    return None if row is None else str(row[0])


def _row(connection: sqlite3.Connection, table: str, query: str) -> Any:
    """The first row of a query; None if there is none, or no such table."""
    named = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return None if named is None else connection.execute(query).fetchone()
