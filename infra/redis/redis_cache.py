"""The shared cache in a Redis server, which may be away, slow, full or restarted at any time.

A request never connects and never waits for a connection: it uses one that is idle, or goes on without the cache. A
connection whose command was cancelled, timed out or failed is closed, because the answer that it still owes would be
read as that of the next command. After FAILURES_MAX failures in a row Redis counts as away: no request asks it until
the background task has connected again.
"""

import asyncio
from collections import deque
from contextlib import suppress
from random import Random
from typing import Final, NamedTuple

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from app.domain.backoff import full_jitter_s
from app.events import Observe, SharedCacheAnswers, SharedCacheLost
from app.ports.clock import Clock

COMMAND_S_MAX: Final = 0.02  # a value of 42 kB takes 0.04 ms on an idle machine; a busy event loop needs some room
CONNECT_S_MAX: Final = 2.0  # to connect, to log in and to choose the database; nobody waits for it
CONNECTIONS_MAX: Final = 8  # each has one command under way; what needs a ninth goes on without the cache
FAILURES_MAX: Final = 3  # failed commands in a row after which Redis counts as away
PAUSE_S_FIRST: Final = 0.5  # before connecting again
PAUSE_S_MAX: Final = 15.0
FULL_PAUSE_S: Final = 1.0  # nothing is put for so long after Redis has refused a value, as one that is full does
WAITING_BYTES_MAX: Final = 8 * 1024 * 1024  # of values that wait to be put; more are dropped
VALUE_BYTES_MAX: Final = 1024 * 1024  # a larger value is not ours, and is read no further; ours take 45 kB
REASON_CHARS_MAX: Final = 200
_MASK: Final = "********"


class _Waiting(NamedTuple):
    key: bytes
    value: bytes
    ttl_ms: int

    @property
    def size(self) -> int:
        """The bytes of key and value."""
        return len(self.key) + len(self.value)


class RedisCache:
    """A SharedCache in the Redis server of a CACHE_URL."""

    def __init__(
        self, url: str, clock: Clock, observe: Observe, seed: int = 0, *, command_s_max: float = COMMAND_S_MAX
    ) -> None:
        """Raises ValueError when `url` is none of a Redis server."""
        self._pool = ConnectionPool.from_url(  # makes connections alone: it would let requests wait for connecting
            url, protocol=2, driver_info=None, socket_timeout=None, socket_connect_timeout=CONNECT_S_MAX
        )
        self._secret = self._pool.connection_kwargs.get("password")
        self._clock = clock
        self._observe = observe
        self._command_s_max = command_s_max
        self._chance = Random(f"{seed}:redis")  # noqa: S311  spreads connecting, guards nothing
        self._idle: list[AbstractConnection] = []
        self._open = 0
        self._is_away = True
        self._is_reported = False
        self._failures = 0
        self._losses = 0
        """How often in a row Redis went away, or could not be reached, without one command that succeeded since."""
        self._lacking = asyncio.Event()
        self._freed = asyncio.Event()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._has_waiting = asyncio.Event()
        self.errors = 0

    @property
    def is_usable(self) -> bool:
        """Whether Redis answers."""
        return not self._is_away

    async def get(self, key: bytes) -> bytes | None:
        """The value of `key`, of at most VALUE_BYTES_MAX; None if there is none, or Redis does not answer in time."""
        if self._is_away:
            return None
        try:  # GETRANGE, because the value may be another program's, of up to 512 MB
            found = await self._command(b"GETRANGE", key, 0, VALUE_BYTES_MAX)
        except _NoConnection:
            return None
        except ResponseError:  # the key of another program, of another type; or a right that we lack
            self.errors += 1
            return None
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        return found if isinstance(found, bytes) and 0 < len(found) <= VALUE_BYTES_MAX else None

    def put(self, key: bytes, value: bytes, ttl_ms: int) -> None:
        """Have `value` put by the background task, unless Redis is away or too much is waiting."""
        one = _Waiting(key, value, ttl_ms)
        if self._is_away or len(value) > VALUE_BYTES_MAX or self._waiting_bytes + one.size > WAITING_BYTES_MAX:
            return
        self._waiting.append(one)
        self._waiting_bytes += one.size
        self._has_waiting.set()

    async def run(self) -> None:
        """Connect whenever a connection is lacking, and put what is waiting, for ever."""
        self._lacking.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected())
            tasks.create_task(self._put_waiting())

    async def close(self) -> None:
        """Close all idle connections; those with a command under way are closed by whoever waits for it."""
        self._is_away = True
        self._drop_waiting()
        await self._close_idle()

    # --- commands -------------------------------------------------------------------------------------------------

    async def _command(self, *words: bytes | int) -> object:
        """The answer to one command. Raises _NoConnection, RedisError, OSError, TimeoutError."""
        if not self._idle:
            self._lack()
            raise _NoConnection
        connection = self._idle.pop()
        try:
            answer = await self._asked(connection, *words)
        except ResponseError:
            self._free(connection)  # the error was the whole answer
            raise
        except BaseException:
            await self._drop(connection)
            raise
        if self._is_away:  # closed, or given up, meanwhile
            await self._drop(connection)
        else:
            self._free(connection)
        self._failures = self._losses = 0
        return answer

    async def _asked(self, connection: AbstractConnection, *words: bytes | int) -> object:
        """The answer to one command, if it comes in time. Raises RedisError, OSError, TimeoutError."""
        async with asyncio.timeout(self._command_s_max):
            await connection.send_command(*words, check_health=False)
            answer: object = await connection.read_response()
            return answer

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        self._failures += 1
        if self._failures >= FAILURES_MAX and not self._is_away:
            self._went(error)

    def _free(self, connection: AbstractConnection) -> None:
        self._idle.append(connection)
        self._freed.set()

    def _lack(self) -> None:
        if self._open < CONNECTIONS_MAX:
            self._lacking.set()

    async def _drop(self, connection: AbstractConnection) -> None:
        """Close a connection without waiting for its end."""
        self._open -= 1
        with suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)

    async def _close_idle(self) -> None:
        while self._idle:
            await self._drop(self._idle.pop())

    # --- away and back --------------------------------------------------------------------------------------------

    def _went(self, error: BaseException) -> None:
        self._is_away = True
        self._failures = 0
        self._losses += 1
        self._drop_waiting()
        self._lacking.set()
        if not self._is_reported:
            self._is_reported = True
            self._observe(SharedCacheLost(self._reason(error)))

    def _reason(self, error: BaseException) -> str:
        text = f"{type(error).__name__}: {error}"
        return (text.replace(self._secret, _MASK) if self._secret else text)[:REASON_CHARS_MAX]

    async def _keep_connected(self) -> None:
        while True:
            await self._lacking.wait()
            self._lacking.clear()
            if self._open >= CONNECTIONS_MAX:
                continue
            if self._is_away:
                await self._close_idle()
                if self._losses:
                    await self._clock.sleep(full_jitter_s(self._chance, self._losses, PAUSE_S_FIRST, PAUSE_S_MAX))
            try:
                connection = await self._connected()
            except (RedisError, OSError, TimeoutError) as error:
                self.errors += 1
                self._went(error)
                continue
            self._open += 1
            self._is_away = False
            self._free(connection)
            if self._is_reported:
                self._is_reported = False
                self._observe(SharedCacheAnswers())

    async def _connected(self) -> AbstractConnection:
        """A connection that has answered in time. Raises RedisError, OSError, TimeoutError."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await self._greet(connection)
        except BaseException:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            raise
        return connection

    async def _greet(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(CONNECT_S_MAX):
            await connection.connect_check_health(check_health=False, retry_socket_connect=False)
        if await self._asked(connection, b"PING") != b"PONG":
            raise InvalidResponse("PING was not answered by PONG")

    # --- putting --------------------------------------------------------------------------------------------------

    async def _put_waiting(self) -> None:
        while True:
            await self._has_waiting.wait()
            if not self._waiting:
                self._has_waiting.clear()
                continue
            if not self._idle:
                self._lack()
                self._freed.clear()
                await self._freed.wait()
                continue
            one = self._waiting.popleft()
            self._waiting_bytes -= one.size
            try:
                await self._command(b"SET", one.key, one.value, b"PX", one.ttl_ms)
            except ResponseError:  # full, or a replica, or without the right to write
                self.errors += 1
                self._drop_waiting()
                await self._clock.sleep(FULL_PAUSE_S)
                self._drop_waiting()
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._has_waiting.clear()


class _NoConnection(Exception):
    """All connections have a command under way, or there is none."""
