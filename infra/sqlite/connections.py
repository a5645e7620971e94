"""Connections to one SQLite file: SQLAlchemy's async pool over aiosqlite, entered once per transaction.

Measured (1,500-row read, 2 cores, event loop 100 % busy): sqlite3 gives up the interpreter lock at every row it fetches
or inserts and waits up to 5 ms to get it back, 790 ms instead of 1.1 ms. So a transaction is one function that runs on
the connection's own thread from begin to end, and statements.py moves many rows in one step.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.ports.errors import StoreUnavailable
from infra.sqlite.failure import StoreReplaced, outlived, unavailable
from infra.sqlite.identity import Identity, identity

T = TypeVar("T")
Report = Callable[[str | None], None]
"""Told after each transaction why it failed, or None when it did not."""

BUSY_TIMEOUT_MS: Final = 5_000  # how long to wait for a lock that another process holds
POOL_WAIT_S_MAX: Final = 30.0  # how long a transaction waits for a free connection before it is refused
WRITER_CACHE_KIB: Final = 16 * 1024
"""Page cache: what closes in a minute is spread over a page of each series. It fills in the first hour of a process, of
whose growth it is two thirds: measured with 200 symbols × 7 intervals 23 MB, with 1 MB here 8 MB."""
READER_CACHE_KIB: Final = 2 * 1024
"""Page cache of a connection that reads. Measured: 1,500 rows take 1.40 ms with 1, 2, 4 and 16 MB alike, also with
mmap: the system's own cache is as good, and all processes share it."""
WAL_BYTES_KEPT: Final = 64 * 1024 * 1024  # the log is cut back to this after a long reader let it grow
STATEMENTS_CACHED: Final = 24  # prepared statements of one connection; one of 1,000 rows takes 1 MB

_READER_PRAGMAS: Final = ("temp_store = memory", f"cache_size = -{READER_CACHE_KIB}")
_WRITER_PRAGMAS: Final = (
    "temp_store = memory",
    f"cache_size = -{WRITER_CACHE_KIB}",
    "journal_mode = wal",
    "synchronous = normal",  # kill -9 loses nothing; a power cut may lose the newest commits, whole ones
    "wal_autocheckpoint = 0",  # the writer says when (checkpoint.py)
    f"journal_size_limit = {WAL_BYTES_KEPT}",
)


class Connections:
    """At most `size` connections to the file at `path`, opened when first needed.

    An open file outlives its name: what is written after someone deleted or replaced it is lost. So the file is looked
    at before each transaction. Readers go on with the one that is there now; writers refuse (StoreReplaced), because
    what their owner knows of the database is not true of another file.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int,
        read_only: bool,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        report: Report = lambda reason: None,
        carries: Sequence[str] = (),
    ) -> None:
        """`carries`: statements that each connection begins with."""
        self._path = path
        self._read_only = read_only
        self._report = report
        self._identity: Identity | None = None  # of the file that the connections are open on
        self._generation = 0
        self._uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"
        pragmas = _READER_PRAGMAS if read_only else _WRITER_PRAGMAS
        self._begins_with = (*(f"PRAGMA {pragma}" for pragma in pragmas), *carries)
        self._busy_timeout_ms = busy_timeout_ms
        self._size = size
        self._engine = self._new_engine()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, called with a connection on that connection's thread. Raises StoreUnavailable.

        `work` runs to its end even when the caller is cancelled; it must leave no transaction open.
        """
        try:
            result = await self._run(work)
        except StoreUnavailable as error:
            self._report(str(error))
            raise
        self._report(None)
        return result

    def is_replaced(self) -> bool:
        """Whether the file that the connections are open on is no longer the one that its path names."""
        return self._identity is not None and identity(self._path, self._identity) != self._identity

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._follow_the_file()
        generation = self._generation
        try:
            pooled = await self._engine.raw_connection()
        except PoolTimeout:
            raise StoreUnavailable(
                f"the database {self._path} is too slow: no connection became free in {POOL_WAIT_S_MAX:.0f} s; "
                "check the disk's load"
            ) from None
        except sqlite3.Error as error:
            raise self._translated(error) from error
        keep = True
        try:
            return await _on_its_thread(pooled, work)
        except sqlite3.Error as error:
            keep = outlived(error) and not _in_transaction(pooled)
            raise self._translated(error) from error
        finally:
            if not keep or generation != self._generation:
                pooled.invalidate()
            pooled.close()

    async def close(self) -> None:
        """Close every connection, after the work that was handed to it."""
        await self._engine.dispose()

    async def _follow_the_file(self) -> None:
        if not self.is_replaced():
            return
        if not self._read_only:
            raise StoreReplaced(self._path)
        old, self._engine = self._engine, self._new_engine()
        self._generation += 1  # those at work are given up when they come back
        self._identity = None
        await asyncio.shield(old.dispose())  # a caller that leaves must not leave connections behind

    def _new_engine(self) -> AsyncEngine:
        return create_async_engine(
            "sqlite+aiosqlite://",
            async_creator=self._connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S_MAX,
            pool_reset_on_return=None,  # every function run here ends its own transaction
        )

    async def _connect(self) -> aiosqlite.Connection:
        connection = aiosqlite.connect(
            self._uri,
            uri=True,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,  # transactions begin and end where the code says so
            cached_statements=STATEMENTS_CACHED,
        )
        await connection
        try:
            for statement in self._begins_with:
                await connection.execute_fetchall(statement)
        except BaseException:
            await connection.close()
            raise
        self._identity = identity(self._path, self._identity)
        return connection

    def _translated(self, error: sqlite3.Error) -> Exception:
        return unavailable(error, self._path) or error


async def _on_its_thread(pooled: PoolProxiedConnection, work: Callable[[sqlite3.Connection], T]) -> T:
    # aiosqlite offers single statements only; its own methods are built on _execute, which runs any function.
    driver: Any = pooled.driver_connection
    return cast(T, await driver._execute(work, driver._conn))


def _in_transaction(pooled: PoolProxiedConnection) -> bool:
    driver: Any = pooled.driver_connection
    return bool(driver.in_transaction)
