"""The stage of a rehearsal: a full database, the exchange, and a node of several workers whose writer is killed."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import DAY_MS, M1, MINUTE_MS, MO1
from app.domain.kline import Kline
from app.domain.series import Series
from app.domain.span import Span
from app.holding.wish import TAIL_KLINES
from app.kinds.klines import KLINES
from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from tests.programs.bench.market import Market
from tests.programs.rehearsal.exchange import MovedClock
from tests.programs.rehearsal.wire import ROLES, Wire, meet
from tests.programs.soak.scrape import Scrape, scraped
from tests.system.processes import ROOT, Place, Program, Programs, free_port, pause, seconds, until

EXCHANGE: Final = (sys.executable, "-m", "tests.programs.rehearsal.exchange")
CODES: Final = ("1m", "3m", "5m", "15m", "1h", "4h", "1d")
REAL_MS: Final = 2 * 3_600_000  # klines that are about to close are rolled up from these minutes
WEIGHT: Final = 2_400  # a minute, as at the exchange (binance-facts section 1.1)
WARM_CONNECTIONS: Final = 4  # to each worker
SCRAPE_S: Final = 2.0
START_S_MAX: Final = 240.0
QUIET_S_MAX: Final = 25.0  # until a node has counted all frames, which it does every ten seconds
TAKE_OVER_S_MAX: Final = 30.0
SOCKETS_S: Final = 8.0  # for all sockets of a new writer, which it opens a second apart


@dataclass(frozen=True)
class Size:
    """The sizes of a rehearsal."""

    minutes: float = 3.0
    symbols: int = 600
    workers: int = 2
    burst: int = 10
    herd: int = 50
    pollers: int = 20
    pagers: int = 2
    deep_days: int = 20
    backfilled: int = 6
    watched: int = 60
    shift_ms: int = 0
    begin_s: int | None = None
    """Second of a minute to begin at; at once when None."""


class RealMarket(Market):
    """The sandbox's own klines near the end, and older ones that only look like them."""

    @cached_property
    def begin_ms(self) -> int:
        """The time from which klines are the sandbox's own. Computing one costs ten times as much as repeating one."""
        return self.clock.now_ms() - REAL_MS

    def klines(self, series: Series, span: Span) -> Iterator[Kline]:
        real = span._replace(start_ms=min(span.end_ms, max(span.start_ms, series.interval.grid.ceil(self.begin_ms))))
        yield from super().klines(series, span._replace(end_ms=real.start_ms))
        yield from self.real(series.symbol, series.interval.code, real)


@dataclass
class Kill:
    """The kill of the writer, and how long its successor took."""

    at_s: float
    lease_s: float = 0.0
    socket_s: float = 0.0
    connects: int = 0


@dataclass
class Stage:
    """The running processes, and what was recorded about them."""

    size: Size
    place: Place
    market: Market
    clock: SystemClock
    exchange: Program
    node: Program
    scrapes: list[Scrape] = field(default_factory=list)
    peak_mb: dict[int, float] = field(default_factory=dict)
    """By process id: the most memory that each worker had, in MB."""
    last_mb: dict[str, float] = field(default_factory=dict)

    # --- before ---------------------------------------------------------------------------------------------------

    async def warm(self) -> None:
        """Fill the tails of both workers by requesting every series once."""
        paths = [
            f"/fapi/v1/klines?symbol={quote(name)}&interval={code}&limit={TAIL_KLINES}"
            for name in self.market.names
            for code in CODES
        ]

        async def ask_all(wire: Wire, mine: Sequence[str]) -> None:
            for path in mine:
                answer = await wire.ask(path)
                assert answer.status == 200, f"{path}: {answer.status} {answer.body[:300]!r}"
            wire.close()

        wires: dict[str, list[Wire]] = {role: [] for role in ROLES}

        async def all_met() -> bool:
            return await meet(self.place.port, wires, WARM_CONNECTIONS)

        await until(all_met, "both roles have answered", START_S_MAX)
        async with asyncio.TaskGroup() as tasks:
            for each in wires.values():
                for number, wire in enumerate(each):
                    tasks.create_task(ask_all(wire, paths[number :: len(each)]))

    async def make_files(self) -> None:
        """Have the exchange make its archive files beforehand, since it computes each of their klines."""
        span = self._month()
        async with httpx.AsyncClient(base_url=self._upstream, trust_env=False, verify=trusting_nobody()) as client:
            for symbol in self._backfilled:
                path = ArchiveFile(symbol, M1, span, is_monthly=True).path
                (await client.get(path, timeout=60)).raise_for_status()

    async def backfill(self) -> None:
        """Request a backfill of a month of history."""
        span = self._month()
        wish = {"symbols": self._backfilled, "intervals": list(CODES), "start": span.start_ms, "end": span.end_ms}
        async with self.place.operator() as client:
            (await client.post("/v1/admin/backfill", json=wish)).raise_for_status()

    @property
    def _backfilled(self) -> list[str]:
        return self.market.names[-self.size.backfilled :]

    def _month(self) -> Span:
        """The newest month for which the archive is sure to have files."""
        grid = MO1.grid
        start_ms = grid.shift(grid.floor(self.clock.now_ms()), -2)
        return Span(start_ms, grid.shift(start_ms, 1))

    async def second(self) -> None:
        """Wait for the second of a minute at which the rehearsal begins."""
        if self.size.begin_s is not None:
            print(f"waiting for second {self.size.begin_s} of a minute", flush=True)
            await pause((self.size.begin_s * 1000 - self.clock.now_ms()) % MINUTE_MS / 1000)

    # --- meanwhile ------------------------------------------------------------------------------------------------

    async def scrape_for_ever(self) -> None:
        """Scrape /metrics as Prometheus does, and record the workers' memory, for ever."""
        while True:
            with contextlib.suppress(httpx.TransportError):  # the worker that was scraped has been killed
                self.scrapes.append(await scraped(self.place))
            pid, _ = self.place.writer()
            for worker, mb in workers(self.node).items():
                self.peak_mb[worker] = max(mb, self.peak_mb.get(worker, 0.0))
                self.last_mb["writer" if worker == pid else "follower"] = mb
            await pause(SCRAPE_S)

    async def frames(self) -> tuple[float, float]:
        """Stop the exchange's frames; return how many it has sent and how many the node has counted."""
        self.exchange.signal(signal.SIGUSR2)
        deadline_s, sent, got = seconds() + QUIET_S_MAX, 0.0, -1.0
        while sent != got and seconds() < deadline_s:
            await pause(0.5)
            sent = (await self._sandbox("status"))["frames_sent"]
            got = (await scraped(self.place)).values["klinenode_frames_total"]
        self.exchange.signal(signal.SIGUSR1)
        return sent, got

    async def kill_the_writer(self) -> Kill:
        """Kill the writer under load (SIGKILL); measure the time until another process subscribes at the exchange."""
        mark = (await self._sandbox("status"))["requests"]
        pid, _ = self.place.writer()
        kill = Kill(seconds())
        os.kill(pid, signal.SIGKILL)

        async def another_writes() -> bool:
            return self.place.writer()[0] not in (0, pid)

        async def connects() -> int:
            found = await self._sandbox(f"requests?since={mark}")
            return sum(each["kind"] == "connect" for each in found["requests"])

        await until(another_writes, "another worker holds the lease", TAKE_OVER_S_MAX)
        kill.lease_s = seconds() - kill.at_s
        await until(connects, "it listens to the exchange", TAKE_OVER_S_MAX)
        kill.socket_s = seconds() - kill.at_s
        await pause(SOCKETS_S)
        kill.connects = await connects()
        return kill

    async def missing(self, within_s: float) -> int:
        """Wait until the node lacks no klines, `within_s` at most; return how many it lacks."""
        deadline_s = seconds() + within_s
        while True:
            report = (await self.place.get("/v1/coverage?limit=1")).json()
            if report["missing"] == 0 or seconds() > deadline_s:
                return int(report["missing"])
            await pause(0.5)

    async def used_weight_max(self) -> int:
        """The most weight used in a minute, as the exchange counts it."""
        return int((await self._sandbox("status"))["used_weight_max"])

    async def _sandbox(self, what: str) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self._upstream, trust_env=False, verify=trusting_nobody()) as client:
            found: dict[str, Any] = (await client.get(f"/sandbox/{what}", timeout=30)).raise_for_status().json()
        return found

    @property
    def _upstream(self) -> str:
        return f"http://127.0.0.1:{self.place.upstream_port}"


def workers(node: Program) -> dict[int, float]:
    """The memory in MB of a node's answering processes, by process id (without uvicorn's parent and the unpackers)."""
    found = {}
    for pid in node.members():
        folder = Path("/proc") / str(pid)
        try:
            command, status = (folder / "cmdline").read_bytes(), (folder / "status").read_text()
        except OSError:
            continue  # the process has ended
        resident = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        if b"spawn_main" in command and resident:
            found[pid] = int(resident[0]) / 1024
    return found


@asynccontextmanager
async def staged(folder: Path, size: Size) -> AsyncIterator[Stage]:
    """Start the exchange and a node on a full database, and wait until the node lacks nothing."""
    clock = MovedClock(size.shift_ms)
    market = RealMarket(clock, size.symbols)
    async with Programs(folder) as programs:
        settings = {
            "INTERVALS": ",".join(CODES),
            "WORKERS": str(size.workers),
            "WEIGHT_PER_MINUTE": str(WEIGHT),
        }
        place = Place(programs, free_port(), settings=settings)
        began_s, now_ms = seconds(), clock.now_ms()
        spans = market.spans(1, CODES, now_ms, TAIL_KLINES)
        for name in market.names[: size.pagers]:
            start_ms = now_ms // DAY_MS * DAY_MS - size.deep_days * DAY_MS
            spans[Series(KLINES, name, M1)] = spans[Series(KLINES, name, M1)]._replace(start_ms=start_ms)
        rows = await market.write(place.db_url, spans)
        print(f"{rows:,} klines of {len(spans):,} series in the database after {seconds() - began_s:.0f} s", flush=True)
        exchange = programs.start(
            *("--port", str(place.upstream_port), "--symbols", str(size.symbols), "--burst", str(size.burst)),
            *("--shift-ms", str(size.shift_ms), "--journal", str(folder / "exchange.log")),
            command=EXCHANGE,
            env={"PYTHONPATH": str(ROOT)},
        )
        stage = Stage(size, place, market, clock, exchange, exchange)
        await until(lambda: stage._sandbox("status"), "the exchange answers", START_S_MAX)
        began_s = seconds()
        await stage.make_files()  # first of all: it evicts the klines that the exchange has cached
        print(f"archive files made after {seconds() - began_s:.0f} s", flush=True)
        began_s = seconds()
        stage.node = place.serve()
        await until(place.is_whole, "the node lacks nothing", START_S_MAX, every_s=0.5)
        print(f"the node lacks nothing after {seconds() - began_s:.0f} s", flush=True)
        yield stage
        programs.end()
