"""A run of one seed: nodes are killed at moments under load, and what each leaves is compared with what was promised.

What looks into the database itself is left to the kinds of runs: on SQLite and on Postgres.
"""

import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import ClassVar, Final

import orjson

from app.binance import rest_rows
from app.domain.interval import MINUTE_MS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from app.node.stores import Reading, store_of
from app.ports.store import OpenReader
from infra.sandbox.server import SandboxServer
from tests.programs.torture.kill import Kill, expect
from tests.programs.torture.load import Load
from tests.system.processes import SETTLED_S, Place, Program, Programs, pause, seconds, until

START, BOOT, MIGRATION, LOAD, TAKEOVER = "start", "boot", "migration", "load", "takeover"
START_S: Final = 0.1  # the interpreter is still importing
BOOT_S: Final = 2.5  # covers imports, lease, migration and the first jobs
LOAD_S: Final = 3.0
CLOSE_WAIT_S: Final = 15.0  # if a minute closes within this time, the kill waits for the close
CLOSING_S: Final = (0.2, 2.5)  # after the close, while the closing frames arrive, are served and are committed
TAKEOVER_S: Final = 2.0  # followers try for the lease every second
WATCH_S: Final = 0.001
UNCOMMITTED_MS_MAX: Final = 60_000  # a closed kline waits 0.2 s for its batch, and then for a busy disk
LINES_MAX: Final = 200  # of one series' ledger: the work of a start must not grow with the number of earlier kills


@dataclass
class Torture(ABC):
    """The run of one seed on one kind of store."""

    moments: ClassVar[tuple[str, ...]]
    """The kinds of kills."""
    pairs: ClassVar[frozenset[str]] = frozenset({TAKEOVER})
    """Those of them that are two kills."""
    log_fact: ClassVar[str]
    """What the bytes of the log in a kill are."""

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

    async def run(self, kills: int) -> None:
        """Kill nodes `kills` times, then let the node fetch its whole wish and check everything."""
        moments = self._moments()
        while len(self.kills) < kills:
            moment = next(moments)
            if moment in self.pairs and kills - len(self.kills) < 2:
                moment = LOAD
            await self._attack(moment)
            expect(not self.load.wrong, f"wrong answers: {self.load.wrong[:3]}")
        await self._end()

    def _moments(self) -> Iterator[str]:
        """Yield every kind of moment once per round, each round in a new random order."""
        return chain.from_iterable(self.rng.sample(self.moments, len(self.moments)) for _ in repeat(None))

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
        """Wait for the right time of a kill under load; return a note about it."""
        to_close_s = (-self.sandbox.exchange.clock.now_ms() % MINUTE_MS) / 1000
        if to_close_s < CLOSE_WAIT_S:
            await pause(to_close_s + self.rng.uniform(*CLOSING_S))
            return "as a minute closed"
        await pause(self.rng.uniform(0, LOAD_S))
        return ""

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

    @abstractmethod
    async def _kill_during_migration(self) -> None:
        """Kill a node while it creates a database; then it has all tables or none, and a start completes it."""

    # --- looking ------------------------------------------------------------------------------------------------

    async def _check(self, kill: Kill, *, whole: bool = False) -> None:
        """Check what a killed node left."""
        if await self._look(kill, whole=whole):
            await self._check_against_the_past(kill)
        self.told(kill)

    @abstractmethod
    async def _look(self, kill: Kill, *, whole: bool) -> bool:
        """Check the database itself, and enter into `kill` what it holds; return whether it has tables."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What only this kind of store has, for the table."""

    async def _check_against_the_past(self, kill: Kill) -> None:
        acknowledged = dict(self.load.acknowledged)  # before the ledgers are read: a node may be running
        db_url = self.places[0].db_url
        reader = store_of(db_url).reader(Reading(db_url))
        try:
            ledgers = await reader.ledgers()
            for series, spans in chain(acknowledged.items(), _known(self.ledgers)):
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

    async def _compare(self, reader: OpenReader, series: Series, span: Span) -> int:
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


def _processor_s(node: Program) -> float:
    """The processor time (s) of a process: on a busy machine a better measure of its work than the wall clock."""
    _, _, fields = (Path("/proc") / str(node.pid) / "stat").read_text().rpartition(")")
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _known(ledgers: dict[Series, Ledger]) -> Iterable[tuple[Series, Spans]]:
    return ((series, ledger.known) for series, ledger in ledgers.items())


async def _is_writer(place: Place) -> bool:
    return bool((await place.health())["role"] == "writer")
