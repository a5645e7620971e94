"""A seed on Postgres: a database of a real server, in the simulated network, and what can happen to both.

What happens to SQLite's file has these counterparts: a lock of another program is a session's, and a slow disk a server
that answers late. A file that cannot be written is a server that has become a standby, and a full disk is a server that
is stopped. Left out are a disk with little room, which a node does not see in its server, and a crash of the server
itself, which all seeds share: `make torture STORE=postgres` has those.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import asyncpg

import infra.postgres.lease
import infra.postgres.lease_session
import infra.postgres.replica
from infra.postgres.lease_session import LeaseSession
from infra.postgres.postgres_store import PostgresWriter
from infra.postgres.shielded import shielded
from tests.postgres_server import PostgresServer, execute, fresh_database
from tests.programs.sim.database import Database
from tests.programs.sim.loop import SimLoop
from tests.programs.sim.network import Network
from tests.programs.sim.outside import Outside
from tests.programs.sim.store import Disk
from tests.programs.sim.stored import Stored, read
from tests.sqlite.material import FixedClock

T = TypeVar("T")

SURFACE: Final = "database"
IP: Final = "127.0.0.1"
PORT: Final = 8_890
"""Where nodes find the database in the simulated network."""

_MAKE_READ_ONLY: Final = "ALTER DATABASE {} SET default_transaction_read_only = on"
_MAKE_WRITABLE: Final = "ALTER DATABASE {} RESET default_transaction_read_only"


class Template(NamedTuple):
    """A database with klinenode's tables, and partitions for the times of the simulation."""

    server: PostgresServer
    name: str

    @classmethod
    async def made(cls, server: PostgresServer) -> Self:
        """Create one on `server`."""
        url = await fresh_database(server.url, is_kept=True)
        await (await PostgresWriter.open(url, FixedClock())).close()
        return cls(server, url.partition("?")[0].rpartition("/")[2])


class OnPostgres:
    """See Store in tests/programs/sim/world.py."""

    def __init__(self, template: Template, folder: Path, network: Network, disk: Disk) -> None:
        """Create the seed's database, a copy of `template`; `folder` is what the node's processes share."""
        self._outside = Outside()
        self._server, self._folder, self._network, self._disk = template.server, folder, network, disk
        url = self._outside.run(fresh_database(self._server.url, template=template.name, is_kept=True))
        self._observer: asyncpg.Connection = self._outside.run(asyncpg.connect(url))
        self.name: str = self._fetch("SELECT current_database()::text")[0][0]
        self._database = Database(network.loop, self._server.socket_path, self._observer, self._outside)
        self._locker: asyncpg.Connection | None = None

    def settings(self) -> dict[str, Any]:
        url = f"postgresql://postgres@{IP}:{PORT}/{self.name}?sslmode=disable"
        return {"db_url": url, "runtime_dir": str(self._folder)}

    @contextmanager
    def running(self, loop: SimLoop) -> Iterator[None]:
        self._network.alias(PORT, SURFACE, (SURFACE, PORT))
        self._network.listen(self._database.session, SURFACE, PORT)
        self._database.delay_s = self._disk.delay_s
        lease: Any = infra.postgres.lease
        timed: tuple[Any, ...] = (lease, infra.postgres.lease_session, infra.postgres.replica)
        before = lease._Keeper, lease.monotonic
        lease._Keeper = KeeperOnTheLoop
        for module in timed:
            module.monotonic = loop.time
        try:
            yield
        finally:
            lease._Keeper = before[0]
            for module in timed:
                module.monotonic = before[1]
            self._close()

    def free_bytes(self) -> int | None:
        return None

    def machine_crashed(self) -> None:
        pass

    def stand_down_until_ms(self) -> int:
        found = self._fetch("SELECT until_ms FROM stand_down")
        return found[0][0] if found else 0

    def read(self) -> Stored | None:
        self._outside.run(self._observer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        try:
            tables = self._fetch("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')")
            return read(self._fetch, {name for (name,) in tables})
        finally:
            self._outside.run(self._observer.execute("ROLLBACK"))

    # --- mishaps ------------------------------------------------------------------------------------------------

    def lock(self, duration_s: float) -> None:
        """Hold the lock that every write transaction needs, in another session, for a while."""
        if self._locker is not None:
            return
        self._locker = self._outside.run(asyncpg.connect(self._server.url(self.name)))
        try:
            self._outside.run(self._locker.execute("BEGIN; SELECT FROM writer FOR UPDATE NOWAIT"))
        except (asyncpg.LockNotAvailableError, asyncpg.ReadOnlySQLTransactionError):
            self._unlock()  # a commit is under way, or the server is a standby
            return
        self._network.loop.call_later(duration_s, self._unlock)

    def stop(self, duration_s: float) -> None:
        """Stop the server for a while: all sessions end, and nobody can connect."""
        self._network.refuse(SURFACE, duration_s)
        self._end_sessions()

    def demote(self, duration_s: float) -> None:
        """Let the server be one that cannot be written for a while, as after a failover; it ends all sessions twice."""
        self._make_writable(_MAKE_READ_ONLY)
        self._network.loop.call_later(duration_s, self._make_writable)

    def end_session(self, number: int) -> None:
        """End one of the sessions as an administrator does."""
        sessions = list(self._database.sessions)
        if sessions:
            sessions[number % len(sessions)].terminate()

    def heal(self) -> None:
        self._disk.heal()
        self._unlock()
        self._make_writable()

    def _make_writable(self, statement: str = _MAKE_WRITABLE) -> None:
        [(is_read_only,)] = self._fetch(
            "SELECT EXISTS (SELECT FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase "
            "WHERE datname = current_database())"
        )
        if is_read_only == (statement == _MAKE_WRITABLE):
            self._outside.run(self._observer.execute(statement.format(self.name)))
            self._end_sessions()

    def _end_sessions(self) -> None:
        for session in list(self._database.sessions):
            session.terminate()

    def _unlock(self) -> None:
        locker, self._locker = self._locker, None
        if locker is not None:
            self._outside.run(locker.execute("ROLLBACK"))  # its answer comes once the locks are free
            self._outside.run(locker.close())
            self._database.happened(None)

    def _fetch(self, select: str) -> list[Any]:
        return list(self._outside.run(self._observer.fetch(select)))

    def _close(self) -> None:
        self._database.close()
        self._unlock()
        self._outside.run(self._observer.close())
        self._outside.run(execute(self._server.url(), f"DROP DATABASE {self.name} WITH (FORCE)"))
        self._outside.close()


class KeeperOnTheLoop(infra.postgres.lease._Keeper):
    """The lease's thread as tasks of its process."""

    def __init__(self, db_url: str) -> None:
        self.session = LeaseSession(db_url)
        self._stop = asyncio.Event()
        self._loop = Future()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def run(self, work: Callable[[LeaseSession], Coroutine[None, None, T]]) -> T:
        return await shielded(asyncio.get_running_loop().create_task(work(self.session)))

    def stop(self) -> None:
        self._stop.set()
