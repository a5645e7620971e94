"""The change feed of a SQLite database: its journal, read whenever somebody asks."""

from typing import Final

from app.ports.clock import Clock
from app.ports.coordination import Changes
from infra.sqlite.changes import read_changes
from infra.sqlite.connections import BUSY_TIMEOUT_MS, Connections
from infra.sqlite.url import sqlite_path

_CONNECTIONS: Final = 1  # one process follows one journal; its looks do not queue behind long reads


class SqliteChangeFeed:
    """Reads the journal over a connection of its own, opened when first needed."""

    def __init__(self, url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        """Raises ValueError when `url` names no SQLite database."""
        self._reads = Connections(sqlite_path(url), size=_CONNECTIONS, read_only=True, busy_timeout_ms=busy_timeout_ms)

    async def changes(self, after: int | None) -> Changes:
        """What was committed after the change number `after`, and the ledgers. Raises StoreUnavailable."""
        return await self._reads.run(lambda connection: read_changes(connection, after))

    async def wait(self, clock: Clock, poll_s: float) -> None:
        """Wait `poll_s` seconds: nobody tells of a commit, and a look costs little."""
        await clock.sleep(poll_s)

    async def close(self) -> None:
        """Close the connection; a look that is under way ends first."""
        await self._reads.close()
