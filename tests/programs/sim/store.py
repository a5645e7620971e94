"""SQLite in the simulation: aiosqlite's threads become callbacks of the event loop, and the disk can fail.

Pool, driver and database are the real ones; only the thread between them is replaced. Every error is raised by SQLite
itself: a full disk is `max_page_count`, a lock is another connection's, a read-only file is `query_only`.
"""

import asyncio
import contextlib
import gc
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiosqlite.core

from infra.sqlite.library import sqlite3
from tests.programs.sim.loop import PROCESS, Fate, SimLoop

PAGES_MAX: Final = 1_073_741_823  # SQLite's default
BUSY_RETRY_S: Final = 0.05
BUSY_S_MAX: Final = 5.0  # infra.sqlite.connections.BUSY_TIMEOUT_MS, on the virtual clock

_connect_for_real = sqlite3.connect


QUICK_S: Final = 0.001  # duration of one operation on a healthy disk


class Tracked(sqlite3.Connection):
    """A connection that weak references can point to."""


class Disk:
    """The state of the disk under all databases of a simulation, and the connections that each process has open."""

    def __init__(self, loop: SimLoop, chance: Random) -> None:
        self._loop = loop
        self._chance = chance
        self.is_full = False
        self.is_read_only = False
        self.work_s = QUICK_S
        self._was_slow_s = (-1.0, QUICK_S)  # when the last slow period ended, and how long an operation took in it
        self.free_bytes = 1 << 40
        self.open: WeakKeyDictionary[sqlite3.Connection, Fate | None] = WeakKeyDictionary()
        self._locks: list[sqlite3.Connection] = []

    def slow_down(self, work_s: float, duration_s: float) -> None:
        """Let each operation take `work_s` seconds for `duration_s` seconds."""
        self.work_s = work_s
        self._loop.call_later(duration_s, self._quicken)

    def _quicken(self) -> None:
        if self.work_s > QUICK_S:
            self._was_slow_s = (self._loop.time(), self.work_s)
        self.work_s = QUICK_S

    def work_s_since(self, since_s: float) -> float:
        """The longest duration (s) of an operation since `since_s`."""
        until_s, work_s = self._was_slow_s
        return max(self.work_s, work_s) if until_s >= since_s else self.work_s

    def delay_s(self) -> float:
        """Draw the duration (s) of the next operation."""
        return self.work_s * (0.5 + self._chance.random())

    def connect(self, database: str, **options: Any) -> sqlite3.Connection:
        """Replace sqlite3.connect during the simulation, so that no lock is waited for in real time."""
        connection: Tracked = _connect_for_real(database, **(options | {"timeout": 0, "factory": Tracked}))
        self.open[connection] = PROCESS.get()
        self._apply(connection)
        return connection

    def closed(self, connection: sqlite3.Connection) -> None:
        """Stop tracking a connection that was closed."""
        self.open.pop(connection, None)

    def set(self, *, is_full: bool | None = None, is_read_only: bool | None = None) -> None:
        """Make the disk full or read-only, or not, for all open connections and later ones."""
        self.is_full = self.is_full if is_full is None else is_full
        self.is_read_only = self.is_read_only if is_read_only is None else is_read_only
        for connection in list(self.open):
            self._apply(connection)

    def lock(self, path: Path, duration_s: float) -> None:
        """Hold the write lock of the database from another connection for `duration_s` seconds, unless it is held."""
        if not path.exists():
            return
        other = _connect_for_real(path, isolation_level=None, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            other.close()
            return
        self._locks.append(other)
        self._loop.call_later(duration_s, self._unlock, other)

    def heal(self) -> None:
        """End every fault of the disk."""
        self._quicken()
        self.free_bytes = 1 << 40
        self.set(is_full=False, is_read_only=False)
        for other in list(self._locks):
            self._unlock(other)

    def abandon(self, fate: Fate) -> None:
        """Stop tracking a dead process's connections; they stay open until the end of the simulation."""
        for connection in self._of(fate):
            fate.graveyard.append(connection)
            self.closed(connection)

    def of(self, fate: Fate) -> int:
        """The number of connections that a process has open."""
        if self._of(fate):
            gc.collect()  # the collector is off during a seed
        for connection in self._of(fate):
            try:
                connection.total_changes  # noqa: B018  the cheapest call that fails on a closed connection
            except sqlite3.ProgrammingError:
                self.closed(connection)
        return len(self._of(fate))

    def _of(self, fate: Fate) -> list[sqlite3.Connection]:
        return [connection for connection, owner in self.open.items() if owner is fate]

    def _unlock(self, other: sqlite3.Connection) -> None:
        if other in self._locks:
            self._locks.remove(other)
            other.close()

    def _apply(self, connection: sqlite3.Connection) -> None:
        try:
            pages = connection.execute("PRAGMA page_count").fetchone()[0] if self.is_full else PAGES_MAX
            connection.execute(f"PRAGMA max_page_count = {max(1, pages)}").fetchone()
            connection.execute(f"PRAGMA query_only = {int(self.is_read_only)}")
        except sqlite3.OperationalError:
            return  # locked at this moment, or not a database yet
        except sqlite3.ProgrammingError:
            self.closed(connection)


def crash_copy(path: Path) -> Path:
    """Copy a database as a crash of the machine leaves it: with an unmerged log, without shared memory."""
    stem, _, number = path.stem.partition("-")
    copy = path.with_name(f"{stem}-{int(number or 0) + 1}{path.suffix}")
    for ending in ("", "-wal", ".lock", ".weight"):
        source = path.with_name(path.name + ending)
        if source.exists():
            shutil.copyfile(source, copy.with_name(copy.name + ending))
    return copy


class _NoThread:
    """Runs nothing: what its queue is given is done by the loop."""

    def __init__(self, target: object, args: object) -> None:
        del target, args

    def start(self) -> None:
        pass

    def join(self) -> None:
        pass


class _WorkQueue:
    """Replaces a connection's thread and its queue: one operation at a time, in the caller's context."""

    def __init__(self, disk: Disk, loop: SimLoop) -> None:
        self._disk, self._loop = disk, loop
        self._waiting: deque[tuple[asyncio.Future[Any] | None, Callable[[], Any]]] = deque()

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        self._waiting.append(item)
        if len(self._waiting) == 1:
            self._next()

    def _next(self) -> None:
        if self._waiting:
            self._loop.call_later(self._disk.delay_s(), self._run, self._loop.time() + BUSY_S_MAX)

    def _run(self, deadline_s: float) -> None:
        future, function = self._waiting[0]
        result: object = None
        failure: Exception | None = None
        try:
            result = function()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and self._loop.time() < deadline_s:
                self._loop.call_later(BUSY_RETRY_S, self._run, deadline_s)
                return
            failure = error
        except Exception as error:  # noqa: BLE001  passed to the task that awaits the future
            failure = error
        self._waiting.popleft()
        # the caller does not know yet that it is committed: a kill may come in between
        self._loop.call_later(self._disk.delay_s(), self._deliver, future, result, failure)
        self._next()

    @staticmethod
    def _deliver(future: asyncio.Future[Any] | None, result: object, failure: Exception | None) -> None:
        if future is None or future.done():
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)


@contextlib.contextmanager
def on_the_loop(disk: Disk, loop: SimLoop) -> Iterator[None]:
    """Run every database of this interpreter on `loop` and `disk`."""
    core: Any = aiosqlite.core
    before = core.Thread, core.SimpleQueue, sqlite3.connect

    class Queue(_WorkQueue):
        def __init__(self) -> None:
            super().__init__(disk, loop)

        __class_getitem__ = classmethod(lambda cls, item: cls)

    core.Thread, core.SimpleQueue, sqlite3.connect = _NoThread, Queue, disk.connect  # type: ignore[assignment]
    try:
        yield
    finally:
        core.Thread, core.SimpleQueue, sqlite3.connect = before
        for connection in itertools.chain(list(disk.open), list(disk._locks)):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
