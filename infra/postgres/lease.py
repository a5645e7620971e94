"""The writer lease of a Postgres database: an advisory lock, kept by a thread that shows the server that we live."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from time import monotonic
from typing import TypeVar

from infra.postgres.lease_session import BEAT_S, LeaseSession
from infra.postgres.shielded import shielded

T = TypeVar("T")


class PostgresLease:
    """The right to write to the database of `db_url`. At most one process holds it.

    The session of the lease has a thread of its own, so that neither the upgrade of a schema nor a long step of the
    event loop keeps it from the server for the SILENCE_S_MAX after which the server gives the lease to another process.
    """

    def __init__(self, db_url: str) -> None:
        self._db_url = db_url
        self._keeper: _Keeper | None = None
        self._asking: asyncio.Task[str | None] | None = None

    async def try_acquire(self, url: str) -> bool:
        """Try to take the lease, and return whether this process now holds it. Raises StoreUnavailable, StoreUnusable.

        `url`, the address of this process' HTTP server, is noted in the table lease_holder.
        """
        return await self._there(lambda session: session.try_acquire(url))

    def is_held(self) -> bool:
        """Whether the server has answered so recently that no other process can hold the lease."""
        return self._keeper is not None and monotonic() < self._keeper.session.held_until_s

    async def renew(self, url: str) -> bool:
        """Try to take the lease again after its session was lost. Raises StoreUnavailable."""
        return await self.try_acquire(url)

    async def release(self) -> None:
        """Release the lease if it is held, and end the session and its thread."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.run(LeaseSession.close)
            await asyncio.to_thread(keeper.stop)

    async def holder(self) -> str | None:
        """The URL of the process that holds the lease; "" when it has not written it yet.

        None when nobody holds it, or when the database cannot be reached. Each request that only the writer answers
        asks for it: those who ask at once share one look, as the session does one thing after the other.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._there(LeaseSession.holder))
        return await shielded(self._asking)

    async def _there(self, work: Callable[[LeaseSession], Coroutine[None, None, T]]) -> T:
        if self._keeper is None:  # also while `release` ends another one, as requests ask for the holder meanwhile
            self._keeper = _Keeper(self._db_url)
        return await self._keeper.run(work)


class _Keeper:
    """The thread, with an event loop on which everything of its session runs: no session has two event loops."""

    def __init__(self, db_url: str) -> None:
        self.session = LeaseSession(db_url)
        self._stop = asyncio.Event()
        self._loop = Future[asyncio.AbstractEventLoop]()
        self._thread = Thread(target=lambda: asyncio.run(self._keep()), name="lease", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[LeaseSession], Coroutine[None, None, T]]) -> T:
        """Run `work` with the session on the thread, to its end even if the caller is cancelled."""
        running = asyncio.run_coroutine_threadsafe(work(self.session), self._loop.result())
        return await shielded(asyncio.wrap_future(running))

    def stop(self) -> None:
        """End the thread, and wait for its end."""
        self._loop.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _keep(self) -> None:
        self._loop.set_result(asyncio.get_running_loop())
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._stop.wait()
            await self.session.beat()
