"""A seed on SQLite: the database is a file, which a crash of the machine leaves with an unmerged log."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from infra.sqlite.library import sqlite3
from tests.programs.sim.loop import SimLoop
from tests.programs.sim.store import Disk, crash_copy, on_the_loop
from tests.programs.sim.stored import Stored, read


class OnSqlite:
    """See Store in tests/programs/sim/world.py."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.name = str(folder)
        self._path = folder / "sim.db"
        self._disk = disk

    def settings(self) -> dict[str, Any]:
        return {"db_url": f"sqlite:///{self._path}"}

    @contextmanager
    def running(self, loop: SimLoop) -> Iterator[None]:
        with on_the_loop(self._disk, loop):
            yield

    def free_bytes(self) -> int | None:
        return self._disk.free_bytes

    def machine_crashed(self) -> None:
        if self._path.exists():
            self._path = crash_copy(self._path)

    def stand_down_until_ms(self) -> int:
        if not self._path.exists():
            return 0
        with closing(self._opened()) as connection:
            try:
                row = connection.execute("SELECT until_ms FROM stand_down").fetchone()
            except sqlite3.OperationalError:
                row = None
        return row[0] if row else 0

    def read(self) -> Stored | None:
        if not self._path.exists():
            return None
        with closing(self._opened()) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            return read(connection.execute, tables) if "ledger" in tables else None

    def lock(self, duration_s: float) -> None:
        """Lock the database against writers for a while."""
        self._disk.lock(self._path, duration_s)

    def heal(self) -> None:
        self._disk.heal()

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        self._disk.closed(connection)  # it is none of a node
        return connection
