"""Kill nodes under load at moments drawn from a seed; after each kill look for lost, duplicate and wrong rows.

Acknowledged is what the ledger was seen to hold, in the database or in /v1/coverage. A kline served from memory before
its commit is not acknowledged: a kill may lose it. It was the exchange's own, so it is served with the same bytes again
later. Klines that the node fetched for a user's request are committed before the answer.

As a program (`python -m tests.programs.torture.torture --kills 100 --seed 1`) it prints a line for each kill and a
summary.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from statistics import linear_regression, median
from typing import Final

import httpx
import orjson

from app.binance import rest_rows
from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sandbox.universe import NEVER_MS, Instrument
from infra.sqlite.library import sqlite3
from infra.sqlite.migrate import upgrade
from infra.sqlite.sqlite_store import SqliteReader
from tests.stored import sealed_rows
from tests.system.processes import SETTLED_S, Place, Program, Programs, pause, seconds, until

START, BOOT, MIGRATION, LOAD, CHECKPOINT, TAKEOVER = "start", "boot", "migration", "load", "checkpoint", "takeover"
MOMENTS: Final = (LOAD, START, CHECKPOINT, TAKEOVER, BOOT, MIGRATION)
START_S: Final = 0.1  # the interpreter is still importing
BOOT_S: Final = 2.5  # covers imports, lease, migration and the first jobs
MIGRATION_S: Final = 0.15  # from the empty file to the committed schema, on a slow machine
LOAD_S: Final = 3.0
CLOSE_WAIT_S: Final = 15.0  # if a minute closes within this time, the kill waits for the close
CLOSING_S: Final = (0.2, 2.5)  # after the close, while the closing frames arrive, are served and are committed
TAKEOVER_S: Final = 2.0  # followers try for the lease every second
CHECKPOINT_WAIT_S: Final = 12.0
WATCH_S: Final = 0.001
READERS: Final = 2
READ_EVERY_S: Final = 0.005  # leaves processor time to the exchange, which lives in the same process
COVERAGE_EVERY: Final = 10
UNCOMMITTED_MS_MAX: Final = 60_000  # a closed kline waits 0.2 s for its batch, and then for a busy disk
DUE_MS: Final = 6_000  # a kline that closed more recently may be missing from an answer while it settles
DAYS_MIN: Final = 15
DAYS_A_KILL: Final = 1.5  # enough history that the node is still writing at the last kill
LINES_MAX: Final = 200  # of one series' ledger: the work of a start must not grow with the number of earlier kills
JOURNAL: Final = "klinenode.db-journal"  # exists while SQLite turns a new file to WAL; a hot one is rolled back
FILES: Final = {
    f"klinenode.db{end}" for end in ("", "-wal", "-shm", ".lock", ".weight", ".line", ".streams", ".token")
} | {JOURNAL}
CODES: Final = ("1m", "5m", "1h")
SYMBOLS: Final = 6


class Broken(AssertionError):
    """The node broke one of its promises."""


def expect(holds: object, what: str) -> None:
    """Raise Broken with the text `what` unless `holds`."""
    if not holds:
        raise Broken(what)


@dataclass(slots=True)
class Kill:
    """One kill and what the check after it found."""

    number: int
    moment: str
    after_s: float
    rows: int = 0
    new_rows: int = 0
    lines: int = 0
    unacknowledged: int = 0
    wal_bytes: int = 0
    note: str = ""


@dataclass
class Load:
    """Clients that send requests all the time, compare every answer with the exchange, and record what was served."""

    sandbox: SandboxServer
    rng: random.Random
    symbols: tuple[str, ...]
    since_ms: int
    place: Place | None = None
    served: dict[Series, Spans] = field(default_factory=lambda: defaultdict(Spans))
    acknowledged: dict[Series, Spans] = field(default_factory=lambda: defaultdict(Spans))
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def ask_for_ever(self) -> None:
        asked = 0
        while True:
            place = self.place
            if place is not None:
                asked += 1
                with contextlib.suppress(httpx.HTTPError):  # the node was killed during the request
                    async with place.http() as client:
                        await (self._coverage if asked % COVERAGE_EVERY == 0 else self._klines)(client, place)
            await pause(READ_EVERY_S)

    async def _klines(self, client: httpx.AsyncClient, place: Place) -> None:
        series = Series(KLINES, self.rng.choice(self.symbols), INTERVALS[self.rng.choice(CODES)])
        grid, now_ms = series.interval.grid, self.sandbox.exchange.clock.now_ms()
        limit = min(self.rng.choice((1, 10, 100, 499)), grid.count(grid.ceil(self.since_ms), grid.floor(now_ms)))
        back_ms = self.rng.choice((0, self.rng.randrange(MINUTE_MS * 60), self.rng.randrange(now_ms - self.since_ms)))
        end_ms = max(grid.floor(now_ms - back_ms), grid.shift(grid.ceil(self.since_ms), limit))
        query = f"symbol={series.symbol}&interval={series.interval.code}&limit={limit}&endTime={end_ms - 1}"
        answer = await client.get(f"/fapi/v1/klines?{query}")
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            return
        span = Span(grid.shift(end_ms, -limit), end_ms)
        truth = self._truth(series, span)
        if answer.content != truth and end_ms > now_ms - DUE_MS:
            span = Span(grid.shift(span.start_ms, -1), grid.shift(end_ms, -1))
            truth = self._truth(series, span)
        if answer.status_code != 200 or answer.content != truth:
            self.wrong.append(f"{answer.status_code} {query}: {answer.text[:300]} instead of {truth[:300]!r}")
        elif place is self.place:
            self.served[series] |= Spans([span])

    def _truth(self, series: Series, span: Span) -> bytes:
        return orjson.dumps(self.sandbox.exchange.rows(series.symbol, series.interval.code, *span))

    async def _coverage(self, client: httpx.AsyncClient, place: Place) -> None:
        answer = await client.get(f"/v1/coverage?symbol={self.rng.choice(self.symbols)}&limit=100")
        if answer.status_code == 200 and place is self.place:
            for each in answer.json()["series"]:
                held = Spans(Span(span["start"], span["end"]) for span in each["held"])
                self.acknowledged[Series(KLINES, each["symbol"], INTERVALS[each["interval"]])] |= held


@dataclass
class Torture:
    """The run of one seed."""

    programs: Programs
    sandbox: SandboxServer
    rng: random.Random
    places: tuple[Place, Place]
    load: Load
    told: Callable[[Kill], None]
    kills: list[Kill] = field(default_factory=list)
    last: Kill = field(default_factory=lambda: Kill(0, "end", 0.0))
    start_s: list[float] = field(default_factory=list)
    start_cpu_s: list[float] = field(default_factory=list)
    ledgers: dict[Series, Ledger] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.programs.folder / "klinenode.db"

    async def run(self, kills: int) -> None:
        """Kill nodes `kills` times, then let the node fetch its whole wish and check everything."""
        moments = self._moments()
        while len(self.kills) < kills:
            moment = next(moments)
            if moment == TAKEOVER and kills - len(self.kills) < 2:
                moment = LOAD
            await self._attack(moment)
            expect(not self.load.wrong, f"wrong answers: {self.load.wrong[:3]}")
        await self._end()

    def _moments(self) -> Iterator[str]:
        """Yield every kind of moment once per round, each round in a new random order."""
        return chain.from_iterable(self.rng.sample(MOMENTS, len(MOMENTS)) for _ in repeat(None))

    async def _attack(self, moment: str) -> None:
        if moment == MIGRATION:
            await self._kill_during_migration()
        elif moment == TAKEOVER:
            await self._kill_during_takeover()
        else:
            place, started_s = self.places[0], seconds()
            node = place.serve()
            note = ""
            if moment in (START, BOOT):
                await pause(self.rng.uniform(*((0, START_S) if moment == START else (START_S, BOOT_S))))
            else:
                await self._up(place, node, started_s)
                note = await self._reach(moment)
            await self._kill(node, moment, started_s, note)
            await self._check(self.kills[-1])

    async def _up(self, place: Place, node: Program, started_s: float) -> None:
        await until(place.is_up, "the node answers after a kill")
        self.start_s.append(seconds() - started_s)
        self.start_cpu_s.append(_processor_s(node))
        self.load.place = place

    async def _reach(self, moment: str) -> str:
        if moment == LOAD:
            to_close_s = (-self.sandbox.exchange.clock.now_ms() % MINUTE_MS) / 1000
            if to_close_s < CLOSE_WAIT_S:
                await pause(to_close_s + self.rng.uniform(*CLOSING_S))
                return "as a minute closed"
            await pause(self.rng.uniform(0, LOAD_S))
            return ""
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

    async def _kill(self, node: Program, moment: str, started_s: float, note: str = "") -> None:
        node.kill()
        self.load.place = None
        self.kills.append(Kill(len(self.kills) + 1, moment, seconds() - started_s, note=note))
        await pause(SETTLED_S)

    async def _kill_during_takeover(self) -> None:
        """Run two nodes on one database: kill the writer, then kill the other while it takes over or soon after."""
        (first, second), started_s = self.places, seconds()
        node = first.serve()
        await self._up(first, node, started_s)
        other = second.serve()
        await until(second.is_up, "the second node answers")
        await pause(self.rng.uniform(0, 1))
        await self._kill(node, TAKEOVER, started_s, "the writer, beside its heir")
        self.told(self.kills[-1])
        killed_s = seconds()
        if self.rng.random() < 0.5:
            await pause(self.rng.uniform(0, TAKEOVER_S))
            note = "its heir, while it took over"
        else:
            await until(lambda: _is_writer(second), "the other one has taken over")
            note = f"its heir, which wrote after {seconds() - killed_s:.1f} s"
            self.load.place = second
            await pause(self.rng.uniform(0, 1))
        await self._kill(other, TAKEOVER, killed_s, note)
        await self._check(self.kills[-1])

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

    # --- looking ------------------------------------------------------------------------------------------------

    async def _check(self, kill: Kill, *, whole: bool = False) -> None:
        """Check the files and the database that a killed node left."""
        names = {path.name for path in self.programs.folder.glob("klinenode.db*")}
        expect(names <= FILES, f"files came: {names - FILES}")
        if not self.database.exists():
            self.told(kill)
            return
        wal = self.programs.folder / "klinenode.db-wal"
        kill.wal_bytes = wal.stat().st_size if wal.exists() else 0
        mode = "rw" if JOURNAL in names else "ro"
        with closing(sqlite3.connect(f"file:{self.database}?mode={mode}", uri=True)) as connection:
            verdict = connection.execute(f"PRAGMA {'integrity_check' if whole else 'quick_check'}").fetchall()
            expect(verdict == [("ok",)], f"SQLite finds damage: {verdict[:3]}")
            is_made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone()[0]
            if is_made:
                kill.rows, kill.lines = _rows_are_the_ledgers(connection)
        if is_made:
            await self._check_against_the_past(kill)
        self.told(kill)

    async def _check_against_the_past(self, kill: Kill) -> None:
        reader = SqliteReader(self.places[0].db_url)
        try:
            ledgers = await reader.ledgers()
            for series, spans in chain(self.load.acknowledged.items(), _known(self.ledgers)):
                now_known = ledgers.get(series, Ledger()).known
                expect(not spans - now_known, f"{series}: lost what was acknowledged: {spans - now_known}")
            kill.unacknowledged = self._served_and_lost(ledgers)
            for series, ledger in ledgers.items():
                expect(len(ledger.entries) <= LINES_MAX, f"{series}: {len(ledger.entries)} ledger lines")
                for span in ledger.held - self.ledgers.get(series, Ledger()).held:
                    kill.new_rows += await self._compare(reader, series, span)
            self.ledgers = ledgers
        finally:
            await reader.close()

    def _served_and_lost(self, ledgers: dict[Series, Ledger]) -> int:
        """Count the klines that were served and never committed; raise Broken for any that had not just closed."""
        count, now_ms = 0, self.sandbox.exchange.clock.now_ms()
        for series, spans in self.load.served.items():
            grid = series.interval.grid
            known = ledgers.get(series, Ledger()).known
            for span in spans - known:
                listed_ms = self._listed_ms(series)
                for open_ms in grid.opens(max(span.start_ms, grid.floor(listed_ms)), span.end_ms):
                    count += 1
                    age_ms = now_ms - grid.shift(open_ms, 1)
                    expect(
                        age_ms <= UNCOMMITTED_MS_MAX, f"{series} {open_ms}: served {age_ms} ms ago at most, and lost"
                    )
        return count

    def _listed_ms(self, series: Series) -> int:
        item = self.sandbox.exchange.universe.find(series.symbol, self.sandbox.exchange.clock.now_ms())
        return item.onboard_ms if item else 0

    async def _compare(self, reader: SqliteReader, series: Series, span: Span) -> int:
        """Compare the stored rows of `span` with the exchange's, byte for byte; return their number."""
        grid = series.interval.grid
        rows = (await reader.read(series, span, 1_000_000)).rows
        mine = rest_rows.join(KLINES.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows)
        theirs = self.sandbox.exchange.rows(series.symbol, series.interval.code, *span)
        expect(mine == orjson.dumps(theirs), f"{series} differs from the exchange in {span}")
        return len(rows)

    async def _end(self) -> None:
        """Let the node run without faults until its wish is held; then check that all klines ever served are stored."""
        self.sandbox.faults.clear(None)
        place, started_s = self.places[0], seconds()
        node = place.serve()
        await self._up(place, node, started_s)
        await until(place.is_whole, "everything is held in the end")
        await pause(LOAD_S)
        self.load.place = None
        await self._kill(node, "end", started_s)
        self.last = self.kills.pop()
        await self._check(self.last, whole=True)
        await self.places[0].check_store(self.sandbox)
        expect(not self.load.wrong, f"wrong answers: {self.load.wrong[:3]}")
        expect(self.load.statuses[200] > 10 * len(self.kills), f"hardly anybody was answered: {self.load.statuses}")


def _rows_are_the_ledgers(connection: sqlite3.Connection) -> tuple[int, int]:
    """Check that every ledger line has its rows, that there are no other rows, and no revisions.

    Return the number of rows and of ledger lines.
    """
    lines = connection.execute("SELECT symbol, interval, start_ms, end_ms, source FROM ledger").fetchall()
    by_table: Counter[str] = Counter()
    sealed = {(series.name, series.interval.code): rows for series, rows in sealed_rows(connection).items()}
    for symbol, code, start_ms, end_ms, source in lines:
        table = f"kline_{code}"
        within = f"FROM {table} WHERE symbol = ? AND open_time >= ? AND open_time < ?"  # formats constants only
        found = connection.execute(f"SELECT count(*) {within}", (symbol, start_ms, end_ms)).fetchone()[0]
        found += sum(start_ms <= row.open_ms < end_ms for row in sealed.get((symbol, code), ()))
        due = 0 if source == "absent" else INTERVALS[code].grid.count(start_ms, end_ms)
        expect(found == due, f"{symbol} {code} {start_ms}–{end_ms} ({source}): {found} rows instead of {due}")
        by_table[table] += found
    for code in CODES:
        rows = connection.execute(f"SELECT count(*) FROM kline_{code}").fetchone()[0]
        rows += sum(len(each) for (_, interval), each in sealed.items() if interval == code)
        expect(
            rows == by_table[f"kline_{code}"], f"kline_{code}: {rows} rows, {by_table[f'kline_{code}']} in the ledger"
        )
    revised = connection.execute("SELECT count(*) FROM revision").fetchone()[0]
    expect(revised == 0, f"{revised} rows were revised, but the exchange never changed one")
    return sum(by_table.values()), len(lines)


def _processor_s(node: Program) -> float:
    """The processor time (s) of a process: on a busy machine a better measure of its work than the wall clock."""
    _, _, fields = (Path("/proc") / str(node.pid) / "stat").read_text().rpartition(")")
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _known(ledgers: dict[Series, Ledger]) -> Iterable[tuple[Series, Spans]]:
    return ((series, ledger.known) for series, ledger in ledgers.items())


def _is_followed(item: Instrument, now_ms: int) -> bool:
    kind = (item.contract_type, item.quote_asset, item.status(now_ms))
    return kind == ("PERPETUAL", "USDT", "TRADING") and item.delivery_date(now_ms) == NEVER_MS


async def _is_writer(place: Place) -> bool:
    return bool((await place.health())["role"] == "writer")


async def _exists(file: Path) -> bool:
    return file.exists()  # noqa: ASYNC240  a look at a local file


@asynccontextmanager
async def torture(folder: Path, *, seed: int, kills: int, told: Callable[[Kill], None]) -> AsyncIterator[Torture]:
    """Start an exchange with a slow archive and a load; yield the run, which starts and kills the nodes."""
    days = max(DAYS_MIN, int(kills * DAYS_A_KILL))
    async with SandboxServer(SystemClock(), symbols=SYMBOLS) as sandbox, Programs(folder) as programs:
        sandbox.inject(kind="archive_slow", delay_s=0.3)
        sandbox.inject(kind="slow", delay_s=0.05)
        settings = {"BACKFILL_DAYS": str(days), "FETCH_CONCURRENCY": "2", "INTERVALS": ",".join(CODES)}
        places = tuple(Place(programs, sandbox.port, settings=settings) for _ in range(2))
        now_ms = sandbox.exchange.clock.now_ms()
        listed = [item.symbol for item in sandbox.exchange.universe.at(now_ms) if _is_followed(item, now_ms)]
        rng = random.Random(seed)
        load = Load(sandbox, random.Random(f"{seed}:load"), tuple(listed), now_ms - days * 1440 * MINUTE_MS)
        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(load.ask_for_ever()) for _ in range(READERS)]
            try:
                yield Torture(programs, sandbox, rng, (places[0], places[1]), load, told)
            finally:
                for user in users:
                    user.cancel()


# --- the program -----------------------------------------------------------------------------------------------------


def table(done: Torture) -> str:
    """Format the findings of a run as a table for people."""
    starts = done.start_s
    moments = Counter(kill.moment for kill in done.kills)
    answers = done.load.statuses
    waited = Counter(kill.note for kill in done.kills if kill.moment == CHECKPOINT)
    facts = {
        "kills": f"{len(done.kills)}: " + ", ".join(f"{number} {name}" for name, number in sorted(moments.items())),
        "checkpoints": ", ".join(f"{number} {note}" for note, number in waited.items()) or "none tried",
        "answers compared": f"{answers[200]} whole and the exchange's, {answers[503]} refused (503)",
        "rows in the end": f"{done.last.rows} in {done.last.lines} ledger lines",
        "lost, doubled, wrong": "0, 0, 0 (a run ends at the first)",
        "served, not acknowledged": f"{sum(kill.unacknowledged for kill in done.kills)} klines; they came back alike",
        "start to first answer": f"{_course(starts)} by the clock",
        "… processor time": _course(done.start_cpu_s),
        "log (WAL) after a kill": f"{max(kill.wal_bytes for kill in done.kills) / 1e6:.1f} MB at most",
    }
    return "\n".join(f"{name:26}{fact}" for name, fact in facts.items())


def _course(starts_s: Sequence[float]) -> str:
    half = max(1, len(starts_s) // 2)
    slope_ms = 1000 * linear_regression(range(len(starts_s)), starts_s).slope
    return (
        f"first {starts_s[0]:.2f} s, median {median(starts_s):.2f} s, last {starts_s[-1]:.2f} s; halves "
        f"{median(starts_s[:half]):.2f} s and {median(starts_s[half:]):.2f} s; {slope_ms:+.1f} ms a start"
    )


def _line(kill: Kill) -> None:
    print(
        f"{kill.number:4} {kill.moment:10} after {kill.after_s:5.2f} s  rows {kill.rows:8} (+{kill.new_rows})  "
        f"lines {kill.lines:4}  WAL {kill.wal_bytes / 1e6:5.1f} MB  unacknowledged {kill.unacknowledged}  {kill.note}",
        flush=True,
    )


async def _main(kills: int, seed: int, folder: Path) -> None:
    print(f"seed {seed}; again: make torture KILLS={kills} SEED={seed}", flush=True)
    async with torture(folder, seed=seed, kills=kills, told=_line) as run:
        await run.run(kills)
        result = table(run)
        run.programs.forget()
    print(result)


def main(arguments: Sequence[str]) -> None:
    """Run from the command line, in a temporary folder that is kept only if something broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    wish = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="klinenode-torture-"))
    try:
        asyncio.run(_main(wish.kills, wish.seed, folder))
    except BaseException:
        print(f"the files are in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
