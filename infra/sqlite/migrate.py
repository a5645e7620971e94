"""The schema of a database file: made at once in a new file, checked in others, and revised only where it is older.

Alembic and SQLAlchemy take half a second of processor time to import, so they are imported only for a revision.
"""

from contextlib import closing
from pathlib import Path
from typing import Final

import migrations
from infra.process.private_file import close_to_strangers, create_private
from infra.sqlite.connections import BUSY_TIMEOUT_MS, NO_CHECKPOINTS
from infra.sqlite.failure import unavailable
from infra.sqlite.library import sqlite3
from infra.sqlite.url import sqlite_path
from infra.stores.move_mark import CREATE_MARK

HEAD_SQL: Final = Path(migrations.__path__[0]) / "head.sql"
"""The statements that all revisions come to, and the newest revision. `make docs` writes it, and a test compares it."""


def upgrade(url: str, *, moved_from: str | None = None, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
    """Create the database of `url` if it is missing, and apply its missing revisions in one transaction.

    `moved_from`: in the same transaction an empty database is marked as the unfinished target of a move from there.
    Blocks; only the writer calls it. Raises ValueError (not an SQLite URL), OSError, StoreUnavailable or SchemaTooNew.
    """
    path = sqlite_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    create_private(path)  # SQLite gives -wal and -shm the same mode; anyone who may read -shm can lock the writer out
    for each in (path, *(path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm"))):
        close_to_strangers(each)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_ms / 1000)) as connection:
            connection.execute(NO_CHECKPOINTS)
            connection.execute("PRAGMA journal_mode = wal")  # persistent in the file; not possible in a transaction
            connection.execute("BEGIN IMMEDIATE")
            is_current = _is_made_current(connection, moved_from)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(error, path) or error from error
    if not is_current:
        from infra.sqlite.revise import revise

        revise(path, busy_timeout_ms)


def _is_made_current(connection: sqlite3.Connection, moved_from: str | None) -> bool:
    """Make the newest schema in an empty database; return whether the database has it."""
    *statements, stamp = HEAD_SQL.read_text().rstrip(";\n").split(";\n")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        for statement in (*statements, stamp):
            connection.execute(statement)
        if moved_from is not None:
            connection.execute(CREATE_MARK)
            connection.execute("INSERT INTO migrate_store VALUES (?)", (moved_from,))
        return True
    if "alembic_version" not in names:
        return False
    return any(repr(version) in stamp for (version,) in connection.execute("SELECT version_num FROM alembic_version"))
