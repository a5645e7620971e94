"""A bounded pool of connections to one Postgres database, each used for one transaction at a time.

asyncpg's own pool sends a statement to reset each connection it takes back, which is as long as a short read takes.
Here every function that gets a connection leaves it as it was, or the connection is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import asyncpg

from app.ports.errors import StoreUnavailable
from infra.postgres.failure import StoreReplaced, is_gone, unavailable
from infra.postgres.fence import WRITER_SETTING
from infra.postgres.identity import Identity, read_identity
from infra.postgres.shielded import shielded
from infra.postgres.url import place

T = TypeVar("T")
Report = Callable[[str | None], None]
"""Called after each transaction with the reason it failed, or None if it succeeded."""

CONNECT_S_MAX: Final = 5.0
READ_STATEMENT_MS_MAX: Final = 10_000  # as long as a client waits for an answer
WRITE_STATEMENT_MS_MAX: Final = 60_000  # a month of klines takes 2 s on a busy machine
LOCK_MS_MAX: Final = 5_000
IDLE_IN_TRANSACTION_MS_MAX: Final = 10_000  # a process that is suspended must not hold locks; another one takes over
UNANSWERED_S: Final = 5.0  # beyond the server's own limit, before a connection counts as dead
POOL_WAIT_S_MAX: Final = 30.0
CLOSE_S_MAX: Final = 1.0  # SIGTERM ends the node within 10 s, also if the server does not answer: up to 9 are over
STATEMENTS_CACHED: Final = 512  # about ten for each of some 50 tables of rows

_BY_KEY: Final = {
    "jit": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
}
"""Every statement here finds its rows by key. Of a table that was not analysed yet, the server would read all rows for
600 short spans of them: 208 ms instead of 35 with 480,000 rows, and that grows."""


_UNUSABLE: Final = (
    OSError,  # TimeoutError too: a statement may still be running
    asyncio.CancelledError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
)
"""The errors after which a connection is not used again."""


class Connections:
    """At most `size` connections to the database of `url`, opened when first needed, and again after they were lost."""

    def __init__(self, url: str, *, size: int, is_read_only: bool, report: Report = lambda reason: None) -> None:
        """Raises ValueError when `url` is no Postgres URL."""
        self._url = url
        self._place = place(url)
        self._size = size
        self._is_read_only = is_read_only
        self._report = report
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection] = []
        self._used: set[asyncpg.Connection] = set()
        self._opening: set[asyncio.Timeout] = set()
        self._is_closing = False
        self._identity: Identity | None = None
        self.is_replaced = False
        """Whether the URL was seen to name another database than the writer's, or none."""

    async def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Await `work` with a connection, and return its result. Raises StoreUnavailable.

        `work` runs to its end even if the caller is cancelled; it must leave no transaction open. A read whose
        connection turns out to be lost, as after the server was restarted, is made again on a new one.
        """
        try:
            async with asyncio.timeout(POOL_WAIT_S_MAX):
                await self._free.acquire()
        except TimeoutError:
            slow = StoreUnavailable(
                f"the database {self._place} is too slow: no connection became free in {POOL_WAIT_S_MAX:.0f} s; "
                "check the server's load"
            )
            self._report(str(slow))
            raise slow from None
        return await shielded(asyncio.get_running_loop().create_task(self._reported(work)))

    async def close(self) -> None:
        """Close every connection after its running work has ended, which fails if it takes longer than CLOSE_S_MAX.

        Connections that are idle are closed meanwhile, all at once: each would wait for a server that does not answer.
        """
        acquired = 0
        self._is_closing = True
        try:
            async with asyncio.TaskGroup() as group:
                self._close_idle(group)
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S_MAX):
                        while acquired < self._size:
                            await self._free.acquire()
                            acquired += 1
                            self._close_idle(group)
                for connection in list(self._used):
                    connection.terminate()
                for attempt in self._opening:
                    attempt.reschedule(asyncio.get_running_loop().time())
                while acquired < self._size:
                    await self._free.acquire()
                    acquired += 1
                self._close_idle(group)
        finally:
            self._is_closing = False
            for _ in range(acquired):
                self._free.release()

    async def _reported(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        try:
            result = await self._run(work)
        except StoreUnavailable as error:
            self._report(str(error))
            raise
        finally:
            self._free.release()
        self._report(None)
        return result

    async def _run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        while True:
            connection = self._pop()
            is_fresh = connection is None
            try:
                if connection is None:
                    connection = await self._opened()
                self._used.add(connection)
                result = await work(connection)
            except BaseException as error:
                if connection is not None and isinstance(error, _UNUSABLE):
                    connection.terminate()  # it does not answer, or is closed, which may not have been seen yet
                is_lost = connection is not None and not self._take_back(connection)
                if is_lost and not is_fresh and self._may_repeat(error):
                    continue
                translated = self._translated(error)
                if translated is error:
                    raise
                raise translated from error
            self._take_back(connection)
            return result

    def _may_repeat(self, error: BaseException) -> bool:
        is_lost = isinstance(error, _UNUSABLE) and not isinstance(error, TimeoutError | asyncio.CancelledError)
        return is_lost and self._is_read_only and not self._is_closing

    def _pop(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _take_back(self, connection: asyncpg.Connection) -> bool:
        """Keep `connection` for later, unless it is closed or in an unknown state; returns whether it is kept."""
        self._used.discard(connection)
        if connection.is_closed():
            return False
        if connection.is_in_transaction():
            connection.terminate()
            return False
        self._idle.append(connection)
        return True

    async def _opened(self) -> asyncpg.Connection:
        """Open a connection, which `close` may cut short. Raises TimeoutError then."""
        async with asyncio.timeout(None) as attempt:
            self._opening.add(attempt)
            try:
                return await self._open()
            finally:
                self._opening.discard(attempt)

    async def _open(self) -> asyncpg.Connection:
        statement_ms = READ_STATEMENT_MS_MAX if self._is_read_only else WRITE_STATEMENT_MS_MAX
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_S_MAX,
            command_timeout=statement_ms / 1000 + UNANSWERED_S,
            statement_cache_size=STATEMENTS_CACHED,
            server_settings={
                "application_name": "klinenode",
                "statement_timeout": str(statement_ms),
                "lock_timeout": str(LOCK_MS_MAX),
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS_MAX),
                **({"default_transaction_read_only": "on"} if self._is_read_only else {WRITER_SETTING: "on"}),
                **_BY_KEY,
            },
        )
        if not self._is_read_only:
            try:
                await self._compare(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _compare(self, connection: asyncpg.Connection) -> None:
        """Raise StoreReplaced if this is not the database that the writer opened first: its caches are not of it."""
        found = await read_identity(connection)
        if self._identity not in (None, found):
            self.is_replaced = True
            raise StoreReplaced(self._place)
        self._identity = found

    def _close_idle(self, group: asyncio.TaskGroup) -> None:
        while self._idle:
            group.create_task(_close(self._idle.pop()))

    def _translated(self, error: BaseException) -> BaseException:
        if is_gone(error) and self._identity is not None:
            self.is_replaced = True
            return StoreReplaced(self._place)
        return unavailable(error, self._place) or error


async def _close(connection: asyncpg.Connection) -> None:
    with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close(timeout=CLOSE_S_MAX)
    if not connection.is_closed():
        connection.terminate()
