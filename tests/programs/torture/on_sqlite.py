"""A run on SQLite: kills in checkpoints beside the other kinds, and looks into the files that a killed node left."""

import asyncio
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from infra.sqlite.library import sqlite3
from infra.sqlite.migrate import upgrade
from tests.programs.torture.kill import Kill, expect
from tests.programs.torture.ledger_lines import Line, expect_agreement
from tests.programs.torture.load import CODES
from tests.programs.torture.run import BOOT, LOAD, MIGRATION, START, TAKEOVER, WATCH_S, Torture
from tests.stored import sealed_rows
from tests.system.processes import Place, pause, seconds, until

CHECKPOINT: Final = "checkpoint"
CHECKPOINT_WAIT_S: Final = 12.0
MIGRATION_S: Final = 0.15  # from the empty file to the committed schema, on a slow machine
JOURNAL: Final = "klinenode.db-journal"  # exists while SQLite turns a new file to WAL; a hot one is rolled back
FILES: Final = {
    f"klinenode.db{end}"
    for end in ("", "-wal", "-shm", ".lock", ".weight", ".time", ".time.new", ".line", ".streams", ".token")
} | {JOURNAL}


@dataclass
class SqliteTorture(Torture):
    """The run of one seed on a SQLite file."""

    moments: ClassVar[tuple[str, ...]] = (LOAD, START, CHECKPOINT, TAKEOVER, BOOT, MIGRATION)
    log_fact: ClassVar[str] = "log (WAL) after a kill"

    @property
    def database(self) -> Path:
        return self.programs.folder / "klinenode.db"

    def facts(self) -> dict[str, str]:
        waited = Counter(kill.note for kill in self.kills if kill.moment == CHECKPOINT)
        return {"checkpoints": ", ".join(f"{number} {note}" for note, number in waited.items()) or "none tried"}

    async def _reach(self, moment: str) -> str:
        if moment != CHECKPOINT:
            return await super()._reach(moment)
        await pause(self.rng.uniform(0, 1))
        before, deadline_s = self._written(), seconds() + CHECKPOINT_WAIT_S
        while seconds() < deadline_s:
            if self._written() != before:
                await pause(self.rng.uniform(0, 0.01))
                return "in a checkpoint"
            await pause(WATCH_S)
        return "no checkpoint came"

    def _written(self) -> int:
        """The modification time (ns) of the database file, which only checkpoints change."""
        return self.database.stat().st_mtime_ns

    async def _kill_during_migration(self) -> None:
        """Kill a node while it creates a database; then the file has all tables or none, and a start completes it."""
        with tempfile.TemporaryDirectory(dir=self.programs.folder) as folder:
            file = Path(folder) / "klinenode.db"
            place = Place(self.programs, self.sandbox.port, database=f"{Path(folder).name}/klinenode.db")
            started_s = seconds()
            node = place.serve()
            await until(lambda: _exists(file), "the file is there", every_s=WATCH_S)
            await pause(self.rng.uniform(0, MIGRATION_S))
            node.kill()
            with closing(sqlite3.connect(file)) as connection:
                expect(connection.execute("PRAGMA quick_check").fetchall() == [("ok",)], "a half made file is damaged")
                tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
            await asyncio.to_thread(upgrade, place.db_url)
            with closing(sqlite3.connect(file)) as connection:
                all_tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
            expect(tables in (0, all_tables), f"{tables} of {all_tables} tables after a kill during the migration")
            note = "before any table" if tables == 0 else "with all tables"
            self.kills.append(Kill(len(self.kills) + 1, MIGRATION, seconds() - started_s, note=note))
            self.told(self.kills[-1])

    async def _look(self, kill: Kill, *, whole: bool) -> bool:
        names = {path.name for path in self.programs.folder.glob("klinenode.db*")}
        expect(names <= FILES, f"files came: {names - FILES}")
        if not self.database.exists():
            return False
        wal = self.programs.folder / "klinenode.db-wal"
        kill.wal_bytes = wal.stat().st_size if wal.exists() else 0
        mode = "rw" if JOURNAL in names else "ro"
        with closing(sqlite3.connect(f"file:{self.database}?mode={mode}", uri=True)) as connection:
            verdict = connection.execute(f"PRAGMA {'integrity_check' if whole else 'quick_check'}").fetchall()
            expect(verdict == [("ok",)], f"SQLite finds damage: {verdict[:3]}")
            is_made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone()[0]
            if is_made:
                kill.rows, kill.lines = _rows_are_the_ledgers(connection)
        return bool(is_made)


def _rows_are_the_ledgers(connection: sqlite3.Connection) -> tuple[int, int]:
    """Check that rows and ledger agree (`expect_agreement`); return the number of rows and of ledger lines."""
    sealed = {(series.name, series.interval.code): rows for series, rows in sealed_rows(connection).items()}
    lines = []
    for symbol, code, start_ms, end_ms, source in connection.execute(
        "SELECT symbol, interval, start_ms, end_ms, source FROM ledger"
    ).fetchall():
        within = f"FROM kline_{code} WHERE symbol = ? AND open_time >= ? AND open_time < ?"  # formats constants only
        found = connection.execute(f"SELECT count(*) {within}", (symbol, start_ms, end_ms)).fetchone()[0]
        found += sum(start_ms <= row.open_ms < end_ms for row in sealed.get((symbol, code), ()))
        lines.append(Line(symbol, code, start_ms, end_ms, source, found))
    rows = Counter({code: connection.execute(f"SELECT count(*) FROM kline_{code}").fetchone()[0] for code in CODES})
    for (_, code), each in sealed.items():
        rows[code] += len(each)
    revised = connection.execute("SELECT count(*) FROM revision").fetchone()[0]
    return expect_agreement(lines, rows, revised)


async def _exists(file: Path) -> bool:
    return file.exists()  # noqa: ASYNC240  a look at a local file
