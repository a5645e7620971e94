"""A run on Postgres: sessions and the server are killed beside the nodes, and the database says what it holds."""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import ClassVar, Final

import asyncpg

from infra.postgres.postgres_store import PostgresWriter
from infra.process.clock import SystemClock
from tests.postgres_server import PostgresServer, execute, fresh_database, on_connection
from tests.programs.torture import inside_postgres
from tests.programs.torture.kill import Kill, expect
from tests.programs.torture.run import BOOT, LOAD, MIGRATION, START, TAKEOVER, WATCH_S, Torture
from tests.system.processes import Place, Program, pause, seconds, until

SESSION, SERVER = "session", "server"
AFTER_S: Final = 1.0  # how long a node runs on at most once it writes again
AWAY_S: Final = 4.0  # how long a crashed server is away at most; a writer counts on its lease for 3 s
MIGRATION_S: Final = 2.0  # from the first session to the last partition, on a busy machine
SESSIONS_END_S_MAX: Final = 10.0  # of a killed node: the transaction that runs ends first
ENDINGS: Final = {"weight", "time", "new", "line", "streams", "token"}
"""Of the files that the processes of a database share; `….time.new` is one that is being written."""

WAYS: Final = (
    ("SIGKILL in a commit", True, "in_commit"),
    ("SIGKILL in a transaction", True, "in_transaction"),
    ("terminated in a transaction", False, "end_transaction"),
    ("terminated lease", False, "end_lease"),
)
"""How a session is ended: its name, whether by SIGKILL, and the function that finds the session or also ends it."""


@dataclass(kw_only=True)
class PostgresTorture(Torture):
    """The run of one seed on a database of a server of its own."""

    moments: ClassVar[tuple[str, ...]] = (LOAD, START, SESSION, TAKEOVER, BOOT, MIGRATION, SERVER)
    pairs: ClassVar[frozenset[str]] = frozenset({TAKEOVER, SESSION, SERVER})
    log_fact: ClassVar[str] = "log (WAL) between looks"

    server: PostgresServer
    url: str
    ways: list[tuple[str, bool, str]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    sessions_end_s: list[float] = field(default_factory=list)
    writes_again_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    log_end_bytes: int = 0

    def facts(self) -> dict[str, str]:
        again = (f"{how}: {min(each):.1f} to {max(each):.1f} s" for how, each in self.writes_again_s.items())
        away = self.load.away
        return {
            "left out": "checkpoint (a node of Postgres makes none)",
            "sessions and servers": ", ".join(f"{number} {how}" for how, number in self.ended.items()) or "none tried",
            "until a node writes again": "; ".join(again) or "none tried",
            "while it was away": f"{away[200]} answers from memory and the exchange, {away[503]} refused (503)",
            "sessions outlive a node": f"{max(self.sessions_end_s, default=0):.2f} s at most",
        }

    async def _attack(self, moment: str) -> None:
        if moment not in (SESSION, SERVER):
            await super()._attack(moment)
            return
        place, started_s = self.places[0], seconds()
        node = place.serve()
        await self._up(place, node, started_s)
        if moment == SESSION:
            await pause(self.rng.uniform(0, 1))
        else:
            await self._reach(LOAD)
        self.load.stored_since_s = None
        how = await (self._end_session() if moment == SESSION else self._crash_server(node))
        ended_s = seconds()
        self.ended[how] += 1
        self.kills.append(Kill(len(self.kills) + 1, moment, ended_s - started_s, note=how))
        if self.load.place is None:
            self.load.stored_since_s = ended_s
            await self._check(self.kills[-1])
            return
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._writes_again())
            await self._check(self.kills[-1])
        again_s = writing.result() - ended_s
        self.writes_again_s[how].append(again_s)
        await pause(self.rng.uniform(0, AFTER_S))
        await self._kill(node, moment, ended_s, f"the node, which wrote again after {again_s:.1f} s")
        await self._check(self.kills[-1])

    async def _writes_again(self) -> float:
        """Wait until a node commits again; return when that was (s)."""
        before = await self._newest_change()

        async def writes() -> bool:
            return await self._newest_change() > before

        await until(writes, "the node writes again")
        self.load.stored_since_s = seconds()
        return self.load.stored_since_s

    async def _end_session(self) -> str:
        """End a session of the node, and return how. After a SIGKILL the server ends all sessions, and recovers."""
        if not self.ways:
            self.ways = self.rng.sample(WAYS, len(WAYS))
        how, is_killed, function = self.ways.pop()

        async def work(connection: asyncpg.Connection) -> None:
            pid = await connection.fetchval(f"SELECT torture.{function}()")
            expect(pid, f"no session was found: {how}")
            if is_killed:
                os.kill(pid, signal.SIGKILL)

                async def is_ended() -> bool:
                    return bool(connection.is_closed())

                await until(is_ended, "the server ends all sessions", every_s=WATCH_S)

        await on_connection(self.url, work)
        if is_killed:
            await until(self._accepts, "the server has recovered")
        return how

    async def _crash_server(self, node: Program) -> str:
        """Stop the server at once, sometimes with `node`, and start it again; return which of both."""
        is_alone = self.rng.random() < 0.5
        await asyncio.to_thread(self.server.stop, is_immediate=True)
        if not is_alone:
            node.kill()
            self.load.place = None
        await pause(self.rng.uniform(0, AWAY_S))
        await asyncio.to_thread(self.server.start)
        return "immediate restart" if is_alone else "immediate restart with the node"

    async def _kill_during_migration(self) -> None:
        url = await fresh_database(self.server.url)
        place = Place(self.programs, self.sandbox.port, server_url=url)
        started_s = seconds()
        node = place.serve()
        await inside_postgres.wait(url, inside_postgres.HAS_SESSIONS, "the node connects")
        await pause(self.rng.uniform(0, MIGRATION_S))
        node.kill()
        await inside_postgres.wait(url, inside_postgres.HAS_NO_SESSIONS, "its sessions end")
        found = await on_connection(url, inside_postgres.tables)
        await (await PostgresWriter.open(url, SystemClock())).close()
        made = await on_connection(url, inside_postgres.tables)
        states = {(0, 0): "before any table", (made[0], 0): "without partitions", made: "with all partitions"}
        expect(found in states, f"{found} of {made} tables and partitions after a kill during the migration")
        self.kills.append(Kill(len(self.kills) + 1, MIGRATION, seconds() - started_s, note=states[found]))
        self.told(self.kills[-1])

    async def _look(self, kill: Kill, *, whole: bool) -> bool:
        endings = {path.name.rpartition(".")[2] for path in self.programs.folder.glob("data/*")}
        expect(endings <= ENDINGS, f"files came: {endings - ENDINGS}")
        if self.load.place is None:
            began_s = seconds()
            await inside_postgres.wait(
                self.url, inside_postgres.HAS_NO_SESSIONS, "the node's sessions end", SESSIONS_END_S_MAX
            )
            self.sessions_end_s.append(seconds() - began_s)
        end_bytes = await on_connection(self.url, inside_postgres.log_end_bytes)
        kill.wal_bytes, self.log_end_bytes = end_bytes - self.log_end_bytes, end_bytes
        found = await on_connection(self.url, lambda connection: inside_postgres.look(connection, whole=whole))
        if found is not None:
            kill.rows, kill.lines = found
        return found is not None

    async def _newest_change(self) -> int:
        return int(await on_connection(self.url, inside_postgres.newest_change))

    async def _accepts(self) -> bool:
        try:
            await execute(self.url, "SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            return False
        return True


async def postgres_database(server: PostgresServer) -> str:
    """Create a database for a run, with the functions that find its sessions; return its URL."""
    url = await fresh_database(server.url, is_kept=True)
    await execute(url, *inside_postgres.SET_UP)
    return url
