"""A pool of connections to one SQLite file (over aiosqlite), used once per transaction.

sqlite3 releases the GIL at every row it fetches or inserts and then waits up to 5 ms to get it back. Measured with a
read of 1,500 rows, 2 cores and a busy event loop: 790 ms instead of 1.1 ms. So a transaction is one function that runs
on the connection's own thread, and statements.py moves many rows in one step.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import aiosqlite

from app.ports.errors import StoreUnavailable
from infra.sqlite.failure import StoreReplaced, outlived, unavailable
from infra.sqlite.identity import Identity, identity
from infra.sqlite.library import sqlite3

T = TypeVar("T")
Report = Callable[[str | None], None]
"""Called after each transaction with the reason it failed, or None if it succeeded."""

BUSY_TIMEOUT_MS: Final = 5_000  # how long to wait for a lock that another process holds
POOL_WAIT_S_MAX: Final = 30.0  # how long a transaction waits for a free connection before it is refused
WRITER_CACHE_KIB: Final = 16 * 1024
"""Page cache of the writer: the klines of one minute go to one page for each series. It fills in the first hour of a
process and is two thirds of the growth: 23 MB for 200 symbols × 7 intervals, 8 MB with a cache of 1 MB."""
READER_CACHE_KIB: Final = 2 * 1024
"""Page cache of a reading connection. Measured: 1,500 rows take 1.40 ms with 1, 2, 4 and 16 MB and also with mmap,
because the page cache of the operating system is as fast; all processes share that one."""
WAL_BYTES_KEPT: Final = 64 * 1024 * 1024  # the log is truncated to this after a long reader let it grow
STATEMENTS_CACHED: Final = 24  # prepared statements of one connection; one of 1,000 rows takes 1 MB

NO_CHECKPOINTS: Final = "PRAGMA wal_autocheckpoint = 0"
"""What every connection begins with: its commits do not checkpoint. The writer's does so by checkpoint.py."""

_READER_PRAGMAS: Final = ("temp_store = memory", f"cache_size = -{READER_CACHE_KIB}")
_WRITER_PRAGMAS: Final = (
    "temp_store = memory",
    f"cache_size = -{WRITER_CACHE_KIB}",
    "journal_mode = wal",
    "synchronous = normal",  # kill -9 loses nothing; a power cut may lose the newest commits, but no part of one
    f"journal_size_limit = {WAL_BYTES_KEPT}",
)


class Connections:
    """At most `size` connections to the file at `path`, opened when first needed.

    A connection keeps its file open after the file is deleted or replaced, and what is then written is lost. So the
    file at `path` is checked before each transaction. Readers switch to the new file. Writers raise StoreReplaced,
    because the state that their owner has cached is not the new file's.
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
        """`carries`: statements that are executed on each new connection."""
        self._path = path
        self._read_only = read_only
        self._report = report
        self._identity: Identity | None = None  # of the file that the connections have open
        self._generation = 0
        self._uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}"
        pragmas = _READER_PRAGMAS if read_only else _WRITER_PRAGMAS
        self._begins_with = (NO_CHECKPOINTS, *(f"PRAGMA {pragma}" for pragma in pragmas), *carries)
        self._busy_timeout_ms = busy_timeout_ms
        self._slots = asyncio.Semaphore(size)  # one for each connection that is in use, or is being opened
        self._free: deque[aiosqlite.Connection] = deque()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` with a connection, on its thread, and return the result. Raises StoreUnavailable.

        `work` runs to its end even if the caller is cancelled; it must leave no transaction open.
        """
        try:
            result = await self._run(work)
        except StoreUnavailable as error:
            self._report(str(error))
            raise
        self._report(None)
        return result

    def is_replaced(self) -> bool:
        """Whether `path` no longer names the file that the connections have open."""
        return self._identity is not None and identity(self._path, self._identity) != self._identity

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._follow_the_file()
        try:
            async with asyncio.timeout(POOL_WAIT_S_MAX):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"the database {self._path} is too slow: no connection became free in {POOL_WAIT_S_MAX:.0f} s; "
                "check the disk's load"
            ) from None
        try:
            return await self._with_a_connection(work)
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            self._slots.release()

    async def _with_a_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        generation = self._generation
        connection = self._free.popleft() if self._free else await self._connect()
        keep = True
        try:
            return await _on_its_thread(connection, work)
        except sqlite3.Error as error:
            keep = outlived(error) and not connection.in_transaction
            raise
        finally:
            if keep and generation == self._generation:
                self._free.append(connection)
            else:
                await asyncio.shield(connection.close())

    async def close(self) -> None:
        """Close every connection after its running and queued work."""
        await self._close_free()

    async def _follow_the_file(self) -> None:
        if not self.is_replaced():
            return
        if not self._read_only:
            raise StoreReplaced(self._path)
        self._identity = None
        await self._close_free()

    async def _close_free(self) -> None:
        self._generation += 1  # connections in use are closed when their transaction ends
        old, self._free = self._free, deque()
        await asyncio.shield(_close_all(old))  # connections are closed even if the caller is cancelled

    async def _connect(self) -> aiosqlite.Connection:
        connection = aiosqlite.connect(
            self._uri,
            uri=True,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,  # no implicit transactions
            cached_statements=STATEMENTS_CACHED,
        )
        try:
            await connection
        except BaseException:
            thread: Thread = cast(Any, connection)._thread  # tells this loop its end, which may be closed by then
            await asyncio.to_thread(thread.join)
            raise
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


async def _close_all(connections: Iterable[aiosqlite.Connection]) -> None:
    for connection in connections:
        await connection.close()


async def _on_its_thread(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    # aiosqlite offers single statements only; its own methods are built on _execute, which runs any function.
    driver: Any = connection
    return cast(T, await driver._execute(work, driver._conn))
