"""The readers of a rehearsal as one process: bots after each close, pollers and pagers.

`python -m tests.programs.rehearsal.crowd TASK` reads its task from a JSON file and prints its result when SIGTERM ends
it. Every answer is checked: a hole, a short page, or a page that does not continue the one before is a failure, as a
503 is.
"""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import orjson

from app.domain.interval import INTERVALS, MINUTE_MS
from tests.programs.rehearsal.exchange import MovedClock
from tests.programs.rehearsal.wire import Answer, Cut, Wire
from tests.system.processes import seconds

HERD_AFTER_S: Final = 0.3  # after a close, when the bots' timers fire
HERD_LIMIT: Final = 500
POLL_EVERY_S: Final = 0.25
POLL_LIMIT: Final = 50
POLLED_EACH: Final = 4  # series that one poller requests
PAGE_ROWS: Final = 1_500
PAGE_EVERY_S: Final = 0.05  # between two pages of one pager: a backtest computes in between
FAILURES_KEPT: Final = 1_000
TIMES_KEPT: Final = 200_000
DEGREES: Final = (0.5, 0.99, 1.0)


class Task(msgspec.Struct, frozen=True):
    """The task of a crowd: the node's port and the readers of each kind."""

    port: int
    shift_ms: int
    symbols: list[str]
    pagers: dict[str, tuple[int, int]]
    """By symbol: the history that one pager reads repeatedly, [from, to) in ms."""
    herd: int = 50
    pollers: int = 20
    codes: tuple[str, ...] = ("1m", "5m", "1h")
    seed: int = 1


class Failure(msgspec.Struct, frozen=True):
    """A read that failed."""

    at_s: float
    """By the machine's monotonic clock, which is the same in all processes."""
    kind: str
    what: str


class Herd(msgspec.Struct, frozen=True):
    """The bots' requests after one close."""

    minute_ms: int
    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    bytes: int


class Result(msgspec.Struct):
    """The result of a crowd."""

    herds: list[Herd] = []
    failures: list[Failure] = []
    failed: dict[str, int] = {}
    statuses: dict[str, int] = {}
    polls_ms: dict[str, float] = {}
    pages_ms: dict[str, float] = {}
    pages: int = 0
    rows_paged: int = 0
    paging_s: float = 0.0
    seconds: float = 0.0


def quantiles(times_ms: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the maximum."""
    ordered = sorted(times_ms) or [0.0]
    return {f"p{degree * 100:g}": ordered[min(len(ordered) - 1, int(degree * len(ordered)))] for degree in DEGREES}


@dataclass
class Crowd:
    """The readers, with their failures and latencies."""

    task: Task
    result: Result = field(default_factory=Result)
    statuses: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    polls: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._clock = MovedClock(self.task.shift_ms)
        self._began_s = seconds()

    async def run(self) -> None:
        """Read until cancelled."""
        rng = random.Random(self.task.seed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._herds())
            for _ in range(self.task.pollers):
                tasks.create_task(self._poll(random.Random(rng.random())))
            for symbol, (start_ms, end_ms) in self.task.pagers.items():
                tasks.create_task(self._page(symbol, start_ms, end_ms))

    def report(self) -> Result:
        """The result so far."""
        found = self.result
        found.seconds = seconds() - self._began_s
        found.statuses, found.failed = dict(self.statuses), dict(self.failed)
        found.polls_ms, found.pages_ms = quantiles(self.polls), quantiles(self.pages)
        found.pages = len(self.pages)
        return found

    async def _ask(self, wire: Wire, path: str, check: Callable[[bytes], str], etag: bytes = b"") -> Answer | None:
        """Send one request; `check` says what is wrong with a body. Return None after a failure, which is recorded."""
        try:
            answer = await wire.ask(path, etag)
        except (Cut, OSError, TimeoutError) as error:
            self._fail(_KINDS.get(type(error), "refused"), path)
            return None
        self.statuses[str(answer.status)] += 1
        if answer.status == 200:
            if wrong := check(answer.body):
                self._fail("wrong", f"{path}: {wrong}")
        elif answer.status != 304:
            self._fail(f"{answer.status // 100}xx", f"{path}: {answer.status} {answer.body[:200]!r}")
            return None
        return answer

    def _fail(self, kind: str, what: str) -> None:
        self.failed[kind] += 1
        if len(self.result.failures) < FAILURES_KEPT:
            self.result.failures.append(Failure(seconds(), kind, what))

    # --- bots -----------------------------------------------------------------------------------------------------

    async def _herds(self) -> None:
        """After each close, request the newest klines of every symbol at once."""
        while True:
            now_ms = self._clock.now_ms()
            minute_ms = (now_ms // MINUTE_MS + 1) * MINUTE_MS
            await self._clock.sleep((minute_ms - now_ms) / 1000 + HERD_AFTER_S)
            await self._herd(minute_ms)

    async def _herd(self, minute_ms: int) -> None:
        symbols, times_ms, size = iter(self.task.symbols), list[float](), 0

        async def bot() -> None:
            nonlocal size
            wire = Wire(self.task.port)  # a new connection: the server closes one that is idle for a minute
            for symbol in symbols:
                path = f"/fapi/v1/klines?symbol={quote(symbol)}&interval=1m&limit={HERD_LIMIT}"
                answer = await self._ask(wire, path, lambda body: faults_of(body, HERD_LIMIT, MINUTE_MS))
                if answer is not None:
                    times_ms.append(answer.ms)
                    size += len(answer.body)
            wire.close()

        began_s = seconds()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.task.herd):
                tasks.create_task(bot())
        took_s, found = seconds() - began_s, quantiles(times_ms)
        self.result.herds.append(Herd(minute_ms, len(times_ms), took_s, found["p50"], found["p99"], size))

    # --- pollers --------------------------------------------------------------------------------------------------

    async def _poll(self, rng: random.Random) -> None:
        """Request a few series repeatedly with their ETags, as a dashboard does: unchanged series give 304."""
        wire = Wire(self.task.port)
        etags: dict[str, bytes] = {}
        series = [(rng.choice(self.task.symbols), rng.choice(self.task.codes)) for _ in range(POLLED_EACH)]
        await self._clock.sleep(rng.random() * POLL_EVERY_S)
        for symbol, code in cycle(series):
            step_ms = INTERVALS[code].grid.step_ms
            path = f"/fapi/v1/klines?symbol={quote(symbol)}&interval={code}&limit={POLL_LIMIT}"

            def check(body: bytes, step_ms: int = step_ms) -> str:
                return faults_of(body, POLL_LIMIT, step_ms)

            answer = await self._ask(wire, path, check, etags.get(path, b""))
            if answer is not None:
                etags[path] = answer.etag
                if len(self.polls) < TIMES_KEPT:
                    self.polls.append(answer.ms)
            await self._clock.sleep(POLL_EVERY_S)

    # --- pagers ---------------------------------------------------------------------------------------------------

    async def _page(self, symbol: str, start_ms: int, end_ms: int) -> None:
        """Read a symbol's history page by page, repeatedly, each time from another minute, so that no page repeats."""
        wire, rng = Wire(self.task.port), random.Random(f"{self.task.seed} {symbol}")
        while True:
            at_ms = start_ms + rng.randrange(PAGE_ROWS) * MINUTE_MS
            while at_ms < end_ms:
                began_s = seconds()
                rows = min(PAGE_ROWS, (end_ms - at_ms) // MINUTE_MS)
                path = f"/fapi/v1/klines?symbol={quote(symbol)}&interval=1m&limit={rows}&startTime={at_ms}"

                def check(body: bytes, first_ms: int = at_ms, rows: int = rows) -> str:
                    return faults_of(body, rows, MINUTE_MS, first_ms)

                answer = await self._ask(wire, path, check)
                if answer is not None:
                    self.pages.append(answer.ms)
                    self.result.rows_paged += rows
                    at_ms += rows * MINUTE_MS
                self.result.paging_s += seconds() - began_s
                await self._clock.sleep(PAGE_EVERY_S)


_KINDS: Final = {Cut: "cut", TimeoutError: "no answer"}


def faults_of(body: bytes, rows: int, step_ms: int, first_ms: int | None = None) -> str:
    """What is wrong with the open times of a body, "" if nothing is; reads only parts of the body."""
    if not body.startswith(b"[["):
        return f"no rows: {body[:100]!r}"
    found = body.count(b"],[") + 1
    first, last = int(body[2:15]), int(body[(at := body.rfind(b"[") + 1) : at + 13])
    if found != rows or last - first != (rows - 1) * step_ms or first_ms not in (None, first):
        return f"{found} rows from {first} to {last} instead of {rows} from {first_ms or 'the newest'}"
    return ""


async def _main(task: Task) -> Result:
    crowd = Crowd(task)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(crowd.run())
        await stop.wait()
        work.cancel()
    return crowd.report()


def main() -> None:
    """Run the task in the file that the command line names."""
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    print(orjson.dumps(msgspec.to_builtins(asyncio.run(_main(task)))).decode())


if __name__ == "__main__":
    main()
