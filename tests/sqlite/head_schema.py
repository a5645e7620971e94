"""What the SQLite revisions in migrations/ make of an empty database, as the statements of migrations/head.sql."""

from contextlib import closing
from pathlib import Path

from infra.sqlite.library import sqlite3
from infra.sqlite.revise import revise


def head_schema(file: Path) -> str:
    """The text of head.sql; `file` is a new database that all revisions are applied to."""
    revise(file, busy_timeout_ms=0)
    with closing(sqlite3.connect(file)) as connection:
        stated = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
        ((version,),) = connection.execute("SELECT version_num FROM alembic_version")
    return (
        "".join(f"{statement};\n" for (statement,) in stated) + f"INSERT INTO alembic_version VALUES ('{version}');\n"
    )
