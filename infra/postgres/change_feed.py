"""The change feed of a Postgres database: its journal, read when the server notifies of a commit.

A notification arrives a moment after its commit, and none over a connection that is cut. So it only says when to look:
every look reads the newest change number from the journal, and misses nothing, whatever was notified.
"""

import asyncio
from typing import Final

import asyncpg

from app.ports.clock import Clock
from app.ports.coordination import LOOK_S_MAX, Changes
from infra.postgres.changes import CHANNEL, read_changes
from infra.postgres.reach import FAULTS, GOODBYE_S_MAX, connect, unavailable

PAUSE_S: Final = 0.03
"""Between two looks, however many commits are told of: a backfill commits dozens of times a second."""
ANSWER_S_MAX: Final = 5.0
"""How long a statement of a look may take: the ledgers of all series, on a busy server. Later, it was cut off."""


class PostgresChangeFeed:
    """Listens and reads over a session of its own, opened when first needed, and again after it was lost."""

    def __init__(self, db_url: str) -> None:
        self._db_url = db_url
        self._connection: asyncpg.Connection | None = None
        self._alone = asyncio.Lock()
        self._told = asyncio.Event()

    async def changes(self, after: int | None) -> Changes:
        """What was committed after the change number `after`, and the ledgers. Raises StoreUnavailable."""
        async with self._alone:
            connection = await self._connected()
            self._told.clear()  # before the read: what is told from now on may be missing in it
            try:
                return await read_changes(connection, after)
            except FAULTS as error:
                self._lose()
                raise unavailable(error, self._db_url) from error
            except BaseException:
                self._lose()  # cancelled: the answer is still under way
                raise

    async def wait(self, clock: Clock, poll_s: float) -> None:
        """Wait until a commit is told of, at most LOOK_S_MAX seconds; `poll_s` seconds while nobody listens."""
        if self._connection is None:
            await clock.sleep(poll_s)
            return
        await clock.sleep(PAUSE_S)
        if not self._told.is_set():
            await _until(self._told, clock, LOOK_S_MAX - PAUSE_S)

    async def close(self) -> None:
        """Close the connection; a look that is under way ends first."""
        async with self._alone:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    await connection.close(timeout=GOODBYE_S_MAX)
                except FAULTS:
                    connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and self._connection.is_closed():
            self._connection = None
        if self._connection is None:
            connection = await connect(self._db_url, "feed", ANSWER_S_MAX)
            try:
                await connection.add_listener(CHANNEL, self._on_told)
            except FAULTS as error:
                connection.terminate()
                raise unavailable(error, self._db_url) from error
            connection.add_termination_listener(self._on_told)
            self._connection = connection
        return self._connection

    def _on_told(self, *_: object) -> None:
        self._told.set()

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _until(event: asyncio.Event, clock: Clock, delay_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        racers = (group.create_task(event.wait()), group.create_task(clock.sleep(delay_s)))
        await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            racer.cancel()
