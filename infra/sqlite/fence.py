"""The fence: only the writer that opened the database last may commit.

The lease lets one process write at a time. A process that was suspended, or whose lock file was deleted, may not know
that it lost the lease. Each writer gets an epoch when it opens the database, and each of its transactions checks that
this is still the newest one.
"""

from contextlib import closing
from pathlib import Path

from infra.sqlite.connections import NO_CHECKPOINTS
from infra.sqlite.library import sqlite3
from infra.stores.deposed import Deposed


def take_over(path: Path, busy_timeout_ms: int) -> int:
    """Make this process the newest writer, and return its epoch. Blocks; raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_ms / 1000)) as connection:
        connection.execute(NO_CHECKPOINTS)  # a former writer may still be checkpointing
        statement = "INSERT INTO writer VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
        epoch: int = connection.execute(statement).fetchone()[0]
        return epoch


def fenced(epoch: int) -> str:
    """The statement that stores the writer's epoch in a connection, for `check`."""
    return f"CREATE TEMP TABLE fence AS SELECT {epoch} AS epoch"


def check(connection: sqlite3.Connection) -> None:
    """Raise Deposed if the connection is not the newest writer's. Called inside a write transaction."""
    if connection.execute("SELECT 1 FROM main.writer JOIN temp.fence USING (epoch)").fetchone() is None:
        raise Deposed
