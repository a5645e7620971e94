"""Reads from a streaming replica, which is a moment behind the primary server.

A process promises what its ledgers say. So a read goes to the replica only when that has replayed the newest change
that the process has seen, and to the primary otherwise. Everything but rows is read from the primary.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import asyncpg

from app.events import Observe, ReplicaAway, ReplicaUsed
from app.ports.errors import StoreDamaged, StoreUnavailable
from infra.postgres.connections import Connections
from infra.postgres.identity import read_identity
from infra.postgres.postgres_store import READ_CONNECTIONS_MAX, PostgresReader

T = TypeVar("T")

REST_S: Final = 5.0
"""How long a replica that could not be read is left alone."""


class ReplicaReader(PostgresReader):
    """Reads of one database, of rows preferably from its replica."""

    def __init__(
        self,
        url: str,
        replica_url: str,
        change_seen: Callable[[], int | None],
        *,
        damage: Callable[[StoreDamaged], None] = lambda error: None,
        observe: Observe = lambda event: None,
    ) -> None:
        """`change_seen`: the number that the replica must have reached for a read; None: ask the primary."""
        super().__init__(url, damage=damage)
        self._replica = Connections(replica_url, size=READ_CONNECTIONS_MAX, is_read_only=True)
        self._change_seen = change_seen
        self._observe = observe
        self._replayed: WeakKeyDictionary[asyncpg.Connection, int] = WeakKeyDictionary()
        """By connection: the number that its server had reached. Behind one URL there may be several servers."""
        self._is_used: bool | None = None
        self._rests_until_s = 0.0

    async def close(self) -> None:
        """Close all connections after the running reads have finished."""
        async with asyncio.TaskGroup() as group:  # at once: each may have to wait for a server that does not answer
            group.create_task(self._replica.close())
            group.create_task(super().close())

    async def _read(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        seen = self._change_seen()
        if seen is not None and monotonic() >= self._rests_until_s:
            try:
                found = await self._replica.run(lambda connection: self._reach(connection, seen, work))
            except _BehindError:
                pass
            except StoreUnavailable as error:  # a block that is damaged there may be sound here
                self._rests_until_s = monotonic() + REST_S
                self._changed(error)
            else:
                self._changed(None)
                return found
        return await super()._read(work)

    async def _reach(
        self, connection: asyncpg.Connection, seen: int, work: Callable[[asyncpg.Connection], Awaitable[T]]
    ) -> T:
        replayed = self._replayed.get(connection)
        if replayed is None and await read_identity(connection) != await self._reads.run(read_identity):
            raise StoreUnavailable("DB_READ_URL does not name a replica of DB_URL, but another database")
        if replayed is None or replayed < seen:
            replayed = await connection.fetchval("SELECT max(seq) FROM change") or 0
            self._replayed[connection] = replayed
        if replayed < seen:
            raise _BehindError
        return await work(connection)

    def _changed(self, error: StoreUnavailable | None) -> None:
        is_used = error is None
        if is_used != self._is_used:
            self._is_used = is_used
            self._observe(ReplicaUsed() if error is None else ReplicaAway(str(error)))


class _BehindError(Exception):
    """The replica has not replayed enough."""
