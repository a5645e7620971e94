"""The stage of the HTTP parts: a full database, the exchange and a node on a pinned clock, all real processes."""

import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.programs.bench.figures import Curve, Figure
from tests.programs.bench.load import Load, Outcome, apply
from tests.programs.bench.market import Market
from tests.programs.bench.node import Reads
from tests.programs.bench.pinned import PinnedClock
from tests.programs.soak.flood import WEIGHT_LIMIT
from tests.system.processes import ROOT, START_MS, Place, Program, Programs, free_port, until

DEEP_SYMBOLS: Final = 20
DEEP_DAYS: Final = 30
NOW_MS: Final = START_MS + 30_000  # in the middle of a minute
UNSEALED: Final = {"SEAL_AFTER_DAYS": "0"}
"""For parts that do not read old rows: sealing those of the stage would take a quarter of the writer's time."""
START_S_MAX: Final = 180.0  # for 600 symbols, on a machine with other work
_SCHEDULED: Final = 2
"""Turns a process id into its CPU clock on Linux (clock_getcpuclockid), which counts ns; /proc has ticks of 10 ms."""


@dataclass(frozen=True)
class Size:
    """The sizes of a run: a full one, or one that only tests the bench."""

    symbols: int = 600
    deep_symbols: int = DEEP_SYMBOLS
    deep_days: int = DEEP_DAYS
    seconds: float = 3.0
    rounds: int = 5
    connections: int = 32
    material_rows: int = 43_200
    frames_a_symbol: int = 84  # in a minute: the market's 1.4 a second
    ingest_minutes: int = 6
    memory_minutes: int = 60
    settle_s: float = 75.0
    """In which tails are compressed and free pages returned, which happens once a minute."""
    months: int = 12
    metrics_days: int = 92
    year_months: int = 12
    stream_clients: int = 200
    streams_a_client: int = 50
    collector_frames: int = 2_000
    export_days: int = 348
    """Of each of twenty symbols: ten million minutes."""


FULL: Final = Size()
TINY: Final = Size(
    symbols=12,
    deep_symbols=2,
    deep_days=5,
    seconds=0.2,
    rounds=1,
    connections=4,
    material_rows=1_500,
    frames_a_symbol=3,
    ingest_minutes=2,
    memory_minutes=2,
    settle_s=0.1,
    months=1,
    metrics_days=10,
    year_months=1,
    stream_clients=5,
    collector_frames=50,
    export_days=3,
)


@dataclass
class Run:
    """A run's folder and sizes, and the figures it has collected."""

    size: Size
    folder: Path
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """The outcome of a load, and the processor time that the server's processes spent on it."""

    outcome: Outcome
    cpu_us: float
    """µs for one answer."""


@dataclass
class Stage:
    """The running processes of a stage."""

    run: Run
    clock: PinnedClock
    market: Market
    programs: Programs
    place: Place
    exchange: Program
    node: Program
    reads: Reads
    deep: list[str]

    async def measure(
        self,
        program: Program,
        port: int,
        paths: Sequence[str],
        *,
        connections: int | None = None,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Measured:
        """Load one server and measure its processor time."""
        load = Load(
            port, paths, connections or self.run.size.connections, seconds or self.run.size.seconds, headers or {}
        )
        before_s = cpu_s(program)
        outcome = await apply(load, self.run.folder)
        assert outcome.failed == 0, f"{outcome.failed} of {outcome.requests} answers were errors"
        return Measured(outcome, (cpu_s(program) - before_s) / outcome.requests * 1e6)

    async def raw(self, kind: str, path: Path) -> tuple[Program, int]:
        """Start an application of tests/programs/bench/raw.py; return the program and its port."""
        port = free_port()
        program = self.programs.start(
            kind, str(port), str(path), command=(sys.executable, "-m", "tests.programs.bench.raw"), cwd=ROOT
        )
        await until_answers(self.programs, port, "/fapi/v1/klines?symbol=ETHUSDT&startTime=0&limit=1")
        return program, port


async def until_answers(programs: Programs, port: int, path: str) -> None:
    """Wait until a server answers `path` on `port`."""
    place = Place(programs, 0, port=port)

    async def answers() -> bool:
        return (await place.get(path)).status_code < 500

    await until(answers, f"port {port} answers")


def cpu_s(program: Program) -> float:
    """The processor time in seconds of a program and its children, user and system."""
    return sum(map(cpu_of, program.members()))


def cpu_of(pid: int) -> float:
    """The processor time in seconds of a process, user and system."""
    return time.clock_gettime(~pid << 3 | _SCHEDULED)


def resident_mb(program: Program) -> float:
    """The resident memory of a program in MB."""
    status = (Path("/proc") / str(program.pid) / "status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024


@asynccontextmanager
async def staged(
    run: Run,
    *,
    codes: Sequence[str] = ("1m",),
    rows_min: int = 1_500,
    rate: float = 0.0,
    settings: Mapping[str, str] | None = None,
    database: str = "",
) -> AsyncIterator[Stage]:
    """Start a stage whose node holds everything it wishes, and some symbols much further back.

    `database` is the URL of an empty one on a Postgres server; without it there is a new file.
    """
    folder = run.folder / f"stage-{'-'.join(codes)}-{rate:g}"
    folder.mkdir()
    size = run.size
    clock = PinnedClock.made(folder / "clock", NOW_MS)
    reads = Reads.made(folder / "reads")
    market = Market(clock, size.symbols, size.material_rows)
    async with Programs(folder) as programs:
        place = Place(programs, free_port(), server_url=database)
        place.settings = {
            "INTERVALS": ",".join(codes),
            "SYMBOLS": ",".join(item.symbol for item in market.followed),  # streamed from the first socket on
            "CONTRACT_TYPES": "PERPETUAL",
            "WEIGHT_PER_MINUTE": str(WEIGHT_LIMIT),
            **(settings or {}),
        }
        deep = market.names[: size.deep_symbols]
        spans = market.spans(1, codes, NOW_MS, rows_min)
        for series, span in spans.items():
            if series.symbol in deep:
                begin_ms = series.interval.grid.floor(NOW_MS - size.deep_days * 86_400_000)
                spans[series] = span._replace(start_ms=min(span.start_ms, begin_ms))
        await market.write(place.db_url, spans)
        exchange = programs.start(
            str(folder / "clock"),
            str(place.upstream_port),
            str(size.symbols),
            str(rate),
            command=(sys.executable, "-m", "tests.programs.bench.exchange"),
            cwd=ROOT,
        )
        await until_answers(programs, place.upstream_port, "/fapi/v1/ping")
        node = programs.start(
            str(folder / "clock"),
            str(folder / "reads"),
            command=(sys.executable, "-m", "tests.programs.bench.node"),
            env=place.env,
            cwd=ROOT,
        )
        await until(place.is_whole, "the node holds its wish", START_S_MAX, every_s=0.5)

        async def listens() -> bool:
            wanted = (await place.health())["sockets"]["sockets"].values()
            opened = sum(each["streams"] for each in node.events("SocketOpened"))
            return bool(wanted) and opened == sum(each["streams"] for each in wanted)

        await until(listens, "the node hears every symbol", START_S_MAX)  # otherwise the node may miss a close
        yield Stage(run, clock, market, programs, place, exchange, node, reads, deep)
        programs.end()
