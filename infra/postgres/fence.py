"""The fence: only the writer that opened the database last may commit.

The lease lets one process write at a time. A process that was suspended may not know that it lost the lease. Each
writer gets an epoch when it opens the database, and each of its transactions checks that this is still the newest one.
The check locks the epoch until the transaction ends, so that another writer takes over before or after it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from infra.stores.deposed import Deposed

WRITER_SETTING: Final = "klinenode.writer"
"""What a writer's connections set, so that triggers can tell its changes of ledger and blocks from those of others."""

_FOUND: Final = "SELECT 1"
"""The status of the fence's statement if it has found a row."""


class Fence:
    """The epoch of a writer, and how many changes of others it knows."""

    def __init__(self, on_foreign_change: Callable[[], None]) -> None:
        """`on_foreign_change` is called inside a transaction before which somebody else changed ledger or blocks."""
        self._epoch = 0
        self._foreign_changes = 0
        self._on_foreign_change = on_foreign_change

    async def take_over(self, connection: asyncpg.Connection) -> None:
        """Make this process the newest writer."""
        row = await connection.fetchrow(
            "INSERT INTO writer (id, epoch) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET epoch = writer.epoch + 1 "
            "RETURNING epoch, foreign_changes"
        )
        self._epoch, self._foreign_changes = row

    @asynccontextmanager
    async def writing(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """A write transaction: commits at the end, or rolls back on an error. Raises Deposed for an old writer.

        If the connection is lost, it is not known whether a commit that was under way came about.
        """
        status = await connection.execute(  # one message, as a transaction of few statements mostly waits for these
            f"BEGIN; SELECT 1 FROM writer WHERE epoch = {self._epoch:d} "
            f"AND foreign_changes = {self._foreign_changes:d} FOR SHARE"
        )
        try:
            if status != _FOUND:
                await self._look_again(connection)
            yield
            await connection.execute("COMMIT")
        except BaseException as error:
            await _roll_back(connection, error)
            raise

    async def _look_again(self, connection: asyncpg.Connection) -> None:
        select = "SELECT foreign_changes FROM writer WHERE epoch = $1 FOR SHARE"
        foreign_changes = await connection.fetchval(select, self._epoch)
        if foreign_changes is None:
            raise Deposed
        self._foreign_changes = foreign_changes
        self._on_foreign_change()


@asynccontextmanager
async def reading(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """A read transaction: all reads inside see one state of the database. Never waits for a writer."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
        await connection.execute("COMMIT")
    except BaseException as error:
        await _roll_back(connection, error)
        raise


async def _roll_back(connection: asyncpg.Connection, error: BaseException) -> None:
    """End the transaction that `error` broke, unless it says that the server cannot be talked to."""
    if isinstance(error, OSError | asyncpg.InterfaceError):  # TimeoutError is an OSError
        return  # the pool drops a connection in this state
    if connection.is_in_transaction() and not connection.is_closed():
        await connection.execute("ROLLBACK")
