"""The command line as real processes on loopback, each started, used and ended within a deadline.

As a program (`python -m tests.system.processes`) it is a node whose minutes pass faster than the machine's, for tests
that need many minutes.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import asyncpg
import httpx
import orjson
import uvicorn

from app.binance import rest_rows
from app.binance.archive_csv import ArchiveFile
from app.domain.interval import DAY_MS
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.node.node import Node
from app.node.parts import Parts
from app.node.stores import Reading, store_of
from app.ports.errors import StoreUnavailable
from app.settings import load
from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from infra.sandbox.journal import Entry
from infra.sandbox.server import SandboxServer
from tests.patience import PATIENCE_S
from tests.postgres_server import fresh_database, on_connection

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
SETPRIV: Final = shutil.which("setpriv")
DIES_WITH_US: Final = (SETPRIV, "--pdeathsig", "KILL") if SETPRIV else ()  # if the tests themselves are killed
KLINENODE: Final = (str(BIN / "klinenode"),)
FAST_NODE: Final = (sys.executable, "-m", "tests.system.processes")
END_S_MAX: Final = 10.0  # the promise of ARCHITECTURE.md: SIGTERM ends the node within 10 s
SETTLED_S: Final = 0.2  # for data that a dead process had sent to reach an exchange in this process
START_MS: Final = 1_795_235_400_000  # 2026-11-21 04:30 UTC, when the fast clocks start

T = TypeVar("T")
_clock: Final = SystemClock()


def seconds() -> float:
    """Seconds on a clock that never goes back, to measure durations."""
    return monotonic_ns() / 1e9


async def until(
    condition: Callable[[], Awaitable[T]], what: str, within_s: float = PATIENCE_S, every_s: float = 0.05
) -> T:
    """Call `condition` until it returns something true, and return that; a transport error counts as false.

    Raises AssertionError with `what` and the last result after `within_s` seconds.
    """
    deadline_s = seconds() + within_s
    answer: object = None
    while seconds() < deadline_s:
        try:
            answer = found = await condition()
        except httpx.TransportError as error:
            answer = error
        else:
            if found:
                return found
        await _clock.sleep(every_s)
    raise AssertionError(f"after {within_s} s still not: {what} (last: {answer!r:.500})")


async def pause(delay_s: float) -> None:
    """Wait `delay_s` seconds, in which nothing must happen, or up to a moment drawn from a seed."""
    await _clock.sleep(delay_s)


def free_port() -> int:
    """A port on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Program:
    """A started command with all its child processes (its process group)."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """Its standard output and standard error so far."""
        return self.out.read_text() + self.err.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events called `name` in its log."""
        lines = [line for line in self.err.read_text().splitlines() if line.startswith("{")]
        return [event for line in lines if (event := orjson.loads(line)).get("event") == name]

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or with `group` to the whole group, as a terminal's Ctrl-C does."""
        if group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the whole group with SIGKILL and wait for the process."""
        self.signal(signal.SIGKILL, group=True)
        self.process.wait(END_S_MAX)

    def members(self) -> list[int]:
        """The process ids of the group's living members."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    _, _, fields = (entry / "stat").read_text().rpartition(")")
                except OSError:
                    continue  # it has ended meanwhile
                state, _, group, *_ = fields.split()
                if int(group) == self.pid and state != "Z":
                    found.append(int(entry.name))
        return found

    async def ended(self, within_s: float = END_S_MAX) -> int:
        """Wait until the process and all its children have ended; return the exit status."""
        deadline_s = seconds() + within_s
        while self.process.poll() is None or self.members():
            assert seconds() < deadline_s, f"still running after {within_s} s: {self.members()}"
            await _clock.sleep(0.02)
        assert self.process.returncode is not None, "it has ended"
        return self.process.returncode


class Programs:
    """The programs that a test starts. At the end, those that still run are killed, and all output is printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Program] = []

    def end(self) -> None:
        """Kill the programs that still run, and print no output of any of them."""
        for program in self._started:
            if program.process.poll() is None:
                program.kill()
        self.forget()

    def forget(self) -> None:
        """Do not print the output of programs that have ended."""
        self._started = [each for each in self._started if each.process.poll() is None]

    def start(
        self,
        *arguments: str,
        command: tuple[str, ...] = KLINENODE,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Program:
        """Start `klinenode arguments…` with the given environment only, in a process group of its own."""
        number = len(self._started)
        out, err = self.folder / f"program-{number}.out", self.folder / f"program-{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*DIES_WITH_US, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd or self.folder,
                env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **(env or {})},
                start_new_session=True,
            )
        program = Program(process, out, err)
        self._started.append(program)
        return program

    async def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        within_s: float = PATIENCE_S,
    ) -> tuple[int, str]:
        """Run a command until it ends; return its exit status and output."""
        program = self.start(*arguments, env=env)
        return await program.ended(within_s), program.said()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, program in enumerate(self._started):
            if program.process.poll() is None or program.members():
                os.killpg(program.pid, signal.SIGKILL)
                program.process.wait(END_S_MAX)
            print(f"--- program {number}: {program.process.args!r}\n{program.said()[-6000:]}")
        await _clock.sleep(SETTLED_S)


@dataclass
class Place:
    """The upstream, database and port of a node, and how to start it with them."""

    programs: Programs
    upstream_port: int
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    database: str = "klinenode.db"
    server_url: str = ""
    """The URL of the database if a server keeps it (`database_of`); otherwise it is the file `database`."""

    @property
    def db_url(self) -> str:
        return self.server_url or f"sqlite:///{self.programs.folder}/{self.database}"

    @property
    def env(self) -> dict[str, str]:
        return {
            "BINANCE_REST_URL": f"http://127.0.0.1:{self.upstream_port}",
            "BINANCE_ARCHIVE_URL": f"http://127.0.0.1:{self.upstream_port}",
            "BINANCE_WS_URL": f"ws://127.0.0.1:{self.upstream_port}",
            "DB_URL": self.db_url,
            "PORT": str(self.port),
            "BACKFILL_DAYS": "1",
            "INTERVALS": "1m,5m,1h",
            "DISK_FREE_BYTES_MIN": "0",
            "VERIFY_EVERY_DAYS": "0",  # tests count requests; tests of verification turn it on
            **self.settings,
        }

    def serve(self) -> Program:
        return self.programs.start("serve", env=self.env)

    def http(self, **headers: str) -> httpx.AsyncClient:
        """An HTTP client of the node there that opens a new connection for each request, as other programs would."""
        limits = httpx.Limits(max_keepalive_connections=0)
        url = f"http://127.0.0.1:{self.port}"
        return httpx.AsyncClient(
            base_url=url, limits=limits, headers=headers, trust_env=False, timeout=25, verify=trusting_nobody()
        )

    def operator(self) -> httpx.AsyncClient:
        """An HTTP client that sends the token of the node's token file."""
        folder = Path(self.settings.get("RUNTIME_DIR", self.programs.folder))
        (file,) = folder.glob("data/*.token" if self.server_url else f"{self.database}*.token")
        return self.http(Authorization=f"Bearer {file.read_text().strip()}")

    async def get(self, path: str) -> httpx.Response:
        async with self.http() as client:
            return await client.get(path)

    async def health(self) -> dict[str, Any]:
        answer = await self.get("/v1/health")
        assert answer.status_code == 200, "health is liveness"
        report: dict[str, Any] = answer.json()
        return report

    async def is_up(self) -> bool:
        return bool(await self.health())

    async def is_whole(self) -> bool:
        """Whether the list of symbols was read and the ledger covers the whole wish."""
        if (await self.health())["symbols_synced_ms"] is None:
            return False
        report = (await self.get("/v1/coverage?limit=1")).json()
        return bool(report["wished"]) and report["missing"] == 0

    def writer(self) -> tuple[int, str]:
        """Process id and address of the writer as noted in the lease; 0 and "" when there is none."""
        if self.server_url:
            with ThreadPoolExecutor(1) as pool:  # from inside of the running loop
                return pool.submit(asyncio.run, on_connection(self.server_url, _holder)).result()
        text = (self.programs.folder / f"{self.database}.lock").read_bytes()
        note: dict[str, Any] = orjson.loads(text or b'{"pid": 0, "url": ""}')
        return note["pid"], note["url"]

    async def ledgers(self) -> dict[Series, Ledger]:
        """The ledgers in the database; empty if it does not exist yet."""
        reader = store_of(self.db_url).reader(Reading(self.db_url))
        try:
            return await reader.ledgers()
        except StoreUnavailable:
            return {}
        finally:
            await reader.close()

    async def check_store(self, sandbox: SandboxServer) -> int:
        """Assert that the rows held are the exchange's and exactly those in the ledger; return their number."""
        reader = store_of(self.db_url).reader(Reading(self.db_url))
        rows_held = 0
        try:
            for series in await reader.ledgers():
                everything = await reader.read(series, Span(0, 1 << 60), 1_000_000)
                ledger = everything.ledger  # from the same moment as the rows: the node may be writing
                stray = [kline.open_ms for kline in everything.rows if not ledger.held.span_at(kline.open_ms)]
                assert not stray, f"{series}: rows outside the ledger at {stray[:3]}"
                grid = series.interval.grid
                for span in ledger.held:
                    rows = [kline for kline in everything.rows if span.start_ms <= kline.open_ms < span.end_ms]
                    mine = rest_rows.join(KLINES.encode(row, grid.shift(row.open_ms, 1) - 1) for row in rows)
                    theirs = sandbox.exchange.rows(series.symbol, series.interval.code, *span)
                    assert mine == orjson.dumps(theirs), f"{series} differs in {span}"
                    rows_held += len(rows)
        finally:
            await reader.close()
        return rows_held


async def database_of(store: str) -> str:
    """The `Place.server_url` of a new database of a kind of store."""
    return "" if store == "sqlite" else await fresh_database()


async def _holder(connection: asyncpg.Connection) -> tuple[int, str]:
    try:
        row = await connection.fetchrow(
            "SELECT process, url FROM lease_holder JOIN pg_locks ON pid = backend_pid WHERE locktype = 'advisory'"
        )
    except asyncpg.UndefinedTableError:
        row = None
    return (0, "") if row is None else (row["process"], row["url"])


def asked_again(entries: list[Entry], ledgers: Mapping[Series, Ledger]) -> list[str]:
    """The requests for klines that `ledgers` cover completely: a node that has kept them sends none."""
    by_name = {(series.symbol, series.interval.code): (series, ledger) for series, ledger in ledgers.items()}
    again = []
    for entry in entries:
        if entry.kind == "rest" and entry.path == "/fapi/v1/klines" and "startTime" in entry.query:
            window = Span(int(entry.query["startTime"]), int(entry.query["endTime"]) + 1)
            found = by_name.get((entry.query["symbol"], entry.query["interval"]))
            is_probe = entry.query["limit"] == "1"  # a request for the first kline ever, which proves absence before it
            if found and not is_probe and found[1].known.covers(window):
                again.append(f"{entry.path} {entry.query}")
        elif entry.kind == "archive" and "/daily/" in entry.path and entry.path.endswith(".zip"):
            name, day = entry.path.rpartition("/")[2].removesuffix(".zip").split("-", 2)[:2], entry.path[-14:-4]
            found = by_name.get((name[0], name[1]))
            if found:
                series, ledger = found
                span = _day(day)
                assert ArchiveFile(series.symbol, series.interval, span, is_monthly=False).path == entry.path
                if ledger.known.covers(span):
                    again.append(entry.path)
    return again


def _day(text: str) -> Span:
    start_ms = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    return Span(start_ms, start_ms + DAY_MS)


class ShiftedClock(SystemClock):
    """An exchange's clock on which a minute is `elapsed_s` old right now, so that a test soon sees its end."""

    def __init__(self, elapsed_s: float) -> None:
        now_ms = super().now_ms()
        self._shift_ms = int(elapsed_s * 1000) - now_ms % 60_000

    def now_ms(self) -> int:
        return super().now_ms() + self._shift_ms


@dataclass(frozen=True)
class SharedClock:
    """A fast clock that several processes share: START_MS is at `origin_ns` of the machine's monotonic clock."""

    origin_ns: int
    speed: float

    def now_ms(self) -> int:
        return START_MS + int((monotonic_ns() - self.origin_ns) * self.speed) // 1_000_000

    def steady_ms(self) -> int:
        return self.now_ms()

    def boot(self) -> str:
        return ""

    async def sleep(self, delay_s: float) -> None:
        await _clock.sleep(delay_s / self.speed)


def main() -> None:
    """Serve a node with the environment's settings on a SharedClock of the arguments: origin (ns) and speed."""
    settings = load()
    clock = SharedClock(int(sys.argv[1]), float(sys.argv[2]))
    uvicorn.run(Node(Parts(settings, clock)).app, port=settings.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
