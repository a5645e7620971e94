"""A session of the database server that holds the writer lease, or asks which session holds it.

The lease is an advisory lock: the server releases it when the session ends. A row beside it names its holder.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from time import monotonic
from typing import Final

import asyncpg

from app.ports.errors import StoreUnavailable
from infra.postgres.reach import FAULTS, GOODBYE_S_MAX, SILENCE_S_MAX, connect, unavailable

BEAT_S: Final = 1.0
"""How often the holder must show the server that it lives; it may fail to do so twice."""

_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS lease_holder (id int PRIMARY KEY CHECK (id = 1), url text NOT NULL, "
    "host text NOT NULL, process int NOT NULL, backend_pid int NOT NULL, since timestamptz NOT NULL)"
)
_NOTE: Final = (
    "INSERT INTO lease_holder VALUES (1, $1, $2, $3, pg_backend_pid(), now()) ON CONFLICT (id) DO UPDATE SET "
    "url = excluded.url, host = excluded.host, process = excluded.process, backend_pid = excluded.backend_pid, "
    "since = excluded.since"
)
_OVER: Final = "this process gives up the writer lease: it stops, or steps down"
_HOLDER: Final = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid = (($1::bigint >> 32) & 4294967295)::oid AND objid = ($1::bigint & 4294967295)::oid"
)


class LeaseSession:
    """Opened when first needed, and again after it was lost. All methods run on one event loop."""

    def __init__(self, db_url: str) -> None:
        self._db_url = db_url
        self._connection: asyncpg.Connection | None = None
        self._key = 0
        self._is_holder = False
        self._is_away = False
        self._alone = asyncio.Lock()
        self._under_way: asyncio.Timeout | None = None
        self._is_over = False
        self.held_until_s = 0.0
        """Until when the lease is held in any case, by time.monotonic(); to be read by any thread.

        It is counted from when the last answered statement was sent. The server counts from its answer, so that it lets
        nobody else have the lease before this moment, even if this process is suspended or cut off.
        """

    async def try_acquire(self, url: str) -> bool:
        """Try to take the lock, and note the holder's address. Raises StoreUnavailable and StoreUnusable."""
        async with self._turn():
            connection = await self._connected()
            try:
                taken = self._is_holder or await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key)
                if not taken:
                    return False
                await connection.execute(_TABLE)
                sent_s = monotonic()
                await connection.execute(_NOTE, url, socket.gethostname(), os.getpid())
            except FAULTS as error:
                self._lose()
                raise unavailable(error, self._db_url) from error
            self._is_holder, self.held_until_s = True, sent_s + SILENCE_S_MAX
            return True

    async def beat(self) -> None:
        """Show the server that this process lives; a session that does not answer is given up."""
        with contextlib.suppress(StoreUnavailable):
            await self._beat()

    async def _beat(self) -> None:
        async with self._turn():
            if self._connection is None:
                return
            sent_s = monotonic()
            try:
                await self._connection.execute("SELECT 1")
            except FAULTS:
                self._lose()
                return
            if self._is_holder:
                self.held_until_s = sent_s + SILENCE_S_MAX

    async def holder(self) -> str | None:
        """The address that the holder has noted, "" when it has not yet; None: no holder, or no database."""
        if self._is_away and self._alone.locked():
            return None  # somebody is trying to connect already
        try:
            async with self._turn():
                connection = await self._connected()
                pid = await connection.fetchval(_HOLDER, self._key)
                return None if pid is None else await _noted(connection, pid)
        except StoreUnavailable:
            return None
        except FAULTS:
            self._lose()
            return None

    async def close(self) -> None:
        """Release the lock and end the session for good, within GOODBYE_S_MAX, whatever else is under way."""
        self._is_over = True
        try:
            async with asyncio.timeout(GOODBYE_S_MAX), self._alone:
                connection, is_holder = self._connection, self._is_holder
                self._forget()
                if connection is not None:
                    await _say_goodbye(connection, self._key if is_holder else None)
        except TimeoutError:
            self._lose()
            if self._under_way is not None:
                self._under_way.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Have the session alone, until `close` cuts it short. Raises StoreUnavailable then."""
        async with self._alone:
            if self._is_over:
                raise StoreUnavailable(_OVER)
            turn = self._under_way = asyncio.timeout(None)
            try:
                async with turn:
                    yield
            except TimeoutError as error:
                if not turn.expired():
                    raise
                raise StoreUnavailable(_OVER) from error
            finally:
                self._under_way = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and self._connection.is_closed():
            self._lose()
        if self._connection is None:
            try:
                connection = await connect(self._db_url, "lease")
                try:
                    schema = await connection.fetchval("SELECT current_schema()")
                except FAULTS as error:
                    connection.terminate()
                    raise unavailable(error, self._db_url) from error
                except BaseException:
                    connection.terminate()
                    raise
            except StoreUnavailable:
                self._is_away = True
                raise
            self._connection, self._key, self._is_away = connection, _key_of(str(schema)), False
            connection.add_termination_listener(self._on_end)
        return self._connection

    def _on_end(self, connection: asyncpg.Connection) -> None:
        if connection is self._connection:
            self._forget()

    def _lose(self) -> None:
        connection = self._connection
        self._forget()
        if connection is not None:
            connection.terminate()

    def _forget(self) -> None:
        self._connection, self._is_holder, self.held_until_s = None, False, 0.0


async def _say_goodbye(connection: asyncpg.Connection, key: int | None) -> None:
    """End a session; `key`: the lock that it holds."""
    try:
        if key is not None:  # at once: the server notices the end of a session a little later
            await connection.execute("SELECT pg_advisory_unlock($1)", key)
        await connection.close()
    except FAULTS:
        connection.terminate()
    except asyncio.CancelledError:
        connection.terminate()
        raise


def _key_of(schema: str) -> int:
    """The number of the lock. Locks of different databases of a server have nothing to do with each other anyway."""
    digest = hashlib.sha256(f"klinenode writer lease of {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def _noted(connection: asyncpg.Connection, pid: int) -> str:
    try:
        url = await connection.fetchval("SELECT url FROM lease_holder WHERE backend_pid = $1", pid)
    except asyncpg.UndefinedTableError:
        return ""
    return "" if url is None else str(url)
