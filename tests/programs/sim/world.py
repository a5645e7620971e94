"""One seed: the exchange, the machine, the network, the processes and their users, on one virtual clock."""

import asyncio
import hashlib
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import anyio.to_thread
import httpcore._async.http11

import app.domain.block_grid
import app.holding.sealing
import app.ingest.live
from app.settings import Settings, load
from infra.binance.sockets import BinanceSockets
from infra.sandbox.faults import parse_fault
from infra.sandbox.options import Options
from infra.sandbox.server import create_app, serving
from infra.sandbox.universe import Instrument, Universe
from tests.programs.sim import check, metrics
from tests.programs.sim.clients import Clients
from tests.programs.sim.loop import Fate, SimLoop
from tests.programs.sim.mishaps import IP, Mishaps
from tests.programs.sim.network import Network
from tests.programs.sim.on_postgres import OnPostgres, Template
from tests.programs.sim.on_sqlite import OnSqlite
from tests.programs.sim.process import Process
from tests.programs.sim.schedule import SURFACES, Plan
from tests.programs.sim.store import Disk
from tests.programs.sim.stored import Stored
from tests.programs.sim.tcp import End

PORT: Final = 8900
LINES_MAX: Final = 50_000  # of the log that a failing seed prints
CALM_S_MIN: Final = 240.0  # long enough to detect a dead socket (75 s) and replace it (at most 60 s)
CALM_S_MAX: Final = 3_600.0  # failed fetches are retried after a quarter of an hour at the latest
LOOK_S: Final = 5.0
BLOCK_MS: Final = 30 * 60_000  # of minutes: a seed lasts about half an hour, and holds a day or more
SEAL_EVERY_S: Final = 20.0


class TrueClock:
    """The exchange's time."""

    def __init__(self, loop: SimLoop, start_ms: int) -> None:
        self._loop, self._start_ms = loop, start_ms

    def now_ms(self) -> int:
        return self._start_ms + int(self._loop.time() * 1_000 + 1e-3)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)  # noqa: TID251  a clock


class MachineClock:
    """The clock of the machine that the nodes run on: it may be wrong, drift and jump."""

    def __init__(self, true: TrueClock, off_ms: int, drift_ppm: int) -> None:
        self._true, self._off_ms, self._drift_ppm = true, off_ms, drift_ppm
        self._since_ms = true.now_ms()

    def now_ms(self) -> int:
        true_ms = self._true.now_ms()
        return true_ms + self._off_ms + (true_ms - self._since_ms) * self._drift_ppm // 1_000_000

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s * (1 - self._drift_ppm / 1e6))  # noqa: TID251  a clock

    def steady_ms(self) -> int:
        since_ms = self._true.now_ms() - self._since_ms
        return 1_000_000 + since_ms + since_ms * self._drift_ppm // 1_000_000

    def boot(self) -> str:
        return "the only one"

    def jump(self, ms: int) -> None:
        """Set the clock forward or back by `ms`."""
        self._off_ms += ms


class SimUniverse(Universe):
    """An exchange with the coins of the plan (and the sandbox's own strays and daily listings)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        super().__init__(plan.seed, 1)

    def _perpetuals(self, symbols: int) -> Any:
        del symbols
        for coin in self._plan.coins:
            item: Instrument = self._perpetual(coin.base, coin.listed_ms)
            yield replace(
                item, trades_a_minute=coin.trades_a_minute, empty_of_1024=coin.empty_of_1024, stated_ms=coin.stated_ms
            )


class Store(Protocol):
    """The database of a seed, of one kind or another."""

    name: str
    """How messages name it, which differs from run to run."""

    def settings(self) -> dict[str, Any]:
        """The settings of a node that name it."""
        ...

    def running(self, loop: SimLoop) -> AbstractContextManager[None]:
        """While entered, what is beside the event loop in the adapters of this kind of store is on `loop`."""
        ...

    def free_bytes(self) -> int | None:
        """How much room a node finds on the disk of the database; None when it cannot tell."""
        ...

    def machine_crashed(self) -> None:
        """All nodes were killed: go on with what their machine's crash leaves."""
        ...

    def stand_down_until_ms(self) -> int:
        """Until when the database says that nothing may be sent; 0: it says nothing."""
        ...

    def read(self) -> Stored | None:
        """What the database holds; None when it has no tables yet."""
        ...

    def lock(self, duration_s: float) -> None:
        """Lock the database against writers for a while, unless a writer has it locked."""
        ...

    def heal(self) -> None:
        """End every fault of the database and its disk."""
        ...


class Sim:
    """The world of one seed: exchange, machine, network, database, processes and users."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        postgres: Template | None = None,
        verbose: Callable[[str], None] | None = None,
    ) -> None:
        """`postgres`: what the database is copied from; without it the database is a file of SQLite in `folder`."""
        self.plan = plan
        self.loop = SimLoop()
        self.clock = TrueClock(self.loop, plan.start_ms)
        self.machine = MachineClock(self.clock, plan.skew_ms, plan.drift_ppm)
        self.network = self.loop.network = Network(self.loop, self.chance("network"))
        self.disk = Disk(self.loop, self.chance("disk"))
        self.loop.work_delay_s = self.disk.delay_s
        self.store: Store = OnSqlite(folder, self.disk)
        if postgres is not None:
            self.store = OnPostgres(postgres, folder, self.network, self.disk)
        self._folder = str(folder)
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.graveyard: list[Fate] = []
        self.frozen: dict[Fate, None] = {}
        self.neighbour_minutes: set[int] = set()
        self.is_over = False
        self.is_contradicted = False
        """Whether the exchange has sent two different versions of a kline."""
        self.calm_since_s: float | None = None
        self.processes = [Process(self, f"node{number}") for number in range(1 + plan.followers)]
        self.clients = Clients(self)
        self.witness = check.Witness(self)
        self.mishaps = Mishaps(self)
        self._verbose = verbose
        self._digest = hashlib.blake2b(digest_size=16)
        self.exchange = create_app(
            self.clock,
            weight_limit=plan.weight_limit,
            socket_life_s=plan.exchange_socket_life_s,
            universe=SimUniverse(plan),
            options=Options(data_limit_per_path=plan.settings.get("data_bucket") == "endpoint"),
        )
        self._make_holes()

    def _make_holes(self) -> None:
        """Let the exchange lack the klines in the plan's holes, from the beginning."""
        for hole in self.plan.holes:
            for wish in hole.faults():
                self.exchange.control.inject(parse_fault(wish))

    def chance(self, name: str) -> Random:
        """A random generator for one part, so that its draws do not change another part's."""
        return Random(f"{self.plan.seed}:{name}")

    @property
    def postgres(self) -> OnPostgres:
        """The store of a seed on Postgres, for what can only happen to that."""
        assert isinstance(self.store, OnPostgres), "this seed is played on SQLite"
        return self.store

    def settings(self) -> Settings:
        """The settings of a process, as its environment would give them."""
        rest, ws, archive = (PORT + 1 + number for number in range(len(SURFACES)))
        return load(
            {
                "binance_rest_url": f"http://{IP}:{rest}",
                "binance_ws_url": f"ws://{IP}:{ws}",
                "binance_archive_url": f"http://{IP}:{archive}",
                "disk_free_bytes_min": 1 << 20,
                "log_level": "ERROR",
                "archive_processes": 0,  # other processes would not run on virtual time
                **self.store.settings(),
                **self.plan.settings,
            },
            env_file=None,
        )

    # --- the log --------------------------------------------------------------------------------------------------

    def trace(self, text: str) -> None:
        """Write a line to the log; two runs of a seed must write the same log."""
        line = f"{self.loop.time():11.4f} {text}".replace(self._folder, "FOLDER").replace(self.store.name, "DATABASE")
        self._digest.update(line.encode())
        self.lines.append(line)
        if self._verbose is not None:
            self._verbose(line)

    @property
    def digest(self) -> str:
        """The hash of the log so far, to compare two runs."""
        return self._digest.hexdigest()

    def count(self, kind: str, number: int = 1) -> None:
        """Add `number` to a count of the summary."""
        self.counts[kind] += number

    def fail(self, text: str, error: BaseException | None = None) -> None:
        """Record a violation, which fails the seed."""
        self.trace(f"FAILED {text}")
        self.failures.append(f"at {self.loop.time():.1f} s: {text}")
        if error is not None:
            for line in "".join(traceback.format_exception(error)).splitlines():
                self.lines.append(line)

    # --- running a seed -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play the seed to its end; `failures` then lists what went wrong."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._unhandled)
        with self._substitutes(), metrics.substituted(self.plan), self.store.running(self.loop):
            self.loop.run_until_complete(self._live())

    @contextmanager
    def _substitutes(self) -> Iterator[None]:
        """Apply the plan's limits to the node, and put libraries that bypass the event loop onto it."""
        live: Any = app.ingest.live
        pool: Any = httpcore._async.http11
        sockets: Any = BinanceSockets.__init__
        threads: Any = anyio.to_thread
        before = live.QUEUE_ROWS_MAX, sockets.__kwdefaults__["life_s"], pool.time, threads.run_sync
        sealing: Any = (app.domain.block_grid, app.holding.sealing, app.holding.sealing)
        names = ("OF_MINUTES_MS", "PASS_EVERY_S", "CHECK_EVERY_S")
        sealed_before = [getattr(module, name) for module, name in zip(sealing, names, strict=True)]
        for module, name, value in zip(sealing, names, (BLOCK_MS, SEAL_EVERY_S, SEAL_EVERY_S), strict=True):
            setattr(module, name, value)
        live.QUEUE_ROWS_MAX = self.plan.queue_rows_max or before[0]
        sockets.__kwdefaults__["life_s"] = self.plan.node_socket_life_s or before[1]
        pool.time = _LoopTime(self.loop)
        threads.run_sync = self._run_in_a_thread
        try:
            yield
        finally:
            live.QUEUE_ROWS_MAX, sockets.__kwdefaults__["life_s"], pool.time, threads.run_sync = before
            for module, name, value in zip(sealing, names, sealed_before, strict=True):
                setattr(module, name, value)

    async def _run_in_a_thread(self, func: Callable[..., Any], *args: Any, **_: Any) -> Any:
        return await self.loop.run_in_executor(None, func, *args)

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serving(self.exchange, PORT))
            for number, surface in enumerate(SURFACES):
                self.network.alias(PORT + 1 + number, surface, (IP, PORT))
            self.network.split_share = self.plan.split_share
            self.network.on_write = self._wrote
            for process in self.processes:
                process.start()
            asking = self._watched(self.clients.run())
            watching = self._watched(self.witness.run())
            await self._chaos()
            await self._calm()
            self.is_over = True
            asking.cancel()
            for process in self.processes:
                process.stop(0.0)
            await self.clock.sleep(30.0)
            watching.cancel()
            for process in self.processes:
                if process.is_alive:
                    self.fail(f"{process.name} does not stop: {self.loop.tasks_of(process.fate)}")
            self.witness.sum_up()

    def _watched(self, coro: Any) -> asyncio.Task[Any]:
        """Start a task of the simulation itself; the seed fails if the task ends by itself."""

        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled():
                self.fail(f"the simulation's own task ended: {task.exception()!r}", task.exception())

        task = self.loop.create_task(coro)
        task.add_done_callback(ended)
        return task

    async def _chaos(self) -> None:
        for step in self.plan.steps:
            await self.clock.sleep(max(0.0, step.at_s - self.loop.time()))
            self.mishaps.perform(step)
        await self.clock.sleep(max(0.0, self.plan.chaos_s - self.loop.time()))

    async def _calm(self) -> None:
        """End every fault, wait until the node has held its whole wish for CALM_S_MIN, and check everything."""
        while not all(process.is_alive for process in self.processes):
            await self.clock.sleep(LOOK_S)
        self.trace("calm")
        self.calm_since_s = self.loop.time()
        self.exchange.faults.clear()
        self._make_holes()
        self.exchange.limiter.pardon()
        self.network.heal()
        self.store.heal()
        deadline_s = self.loop.time() + CALM_S_MAX
        is_verified = False
        while True:
            await self.clock.sleep(LOOK_S)
            standing_ms = max((process.standing_until_ms() for process in self.processes), default=0)
            deadline_s = max(deadline_s, self.loop.time() + (standing_ms - self.clock.now_ms()) / 1_000 + 1_800)
            lacking = self.witness.lacking()
            if not all(process.is_alive for process in self.processes):  # a kill that was due some steps later
                deadline_s = max(deadline_s, self.loop.time() + CALM_S_MAX)
            if standing_ms > self.clock.now_ms():
                self.calm_since_s = self.loop.time()  # a node may learn of new symbols when it may send again
            if not lacking and self.is_contradicted and not is_verified:
                is_verified = True
                await self.witness.verify()
            if not lacking and self.loop.time() - self.calm_since_s >= CALM_S_MIN:
                break
            if self.loop.time() > deadline_s:
                self.fail(f"not whole {self.loop.time() - self.calm_since_s:.0f} s after the last fault: {lacking}")
                break
        self.trace("whole")
        await self.witness.at_the_end()

    # --- observations -------------------------------------------------------------------------------------------------

    def has_been_calm_for(self, delay_s: float) -> bool:
        """Whether the last fault ended more than `delay_s` seconds ago."""
        return self.calm_since_s is not None and self.loop.time() - self.calm_since_s > delay_s

    def was_frozen(self, fate: Fate) -> bool:
        """Whether this process was ever frozen."""
        return fate in self.frozen

    def processes_changed(self, how: str) -> None:
        """React to the end of a process: after a kill of the last one, go on with the disk of a crashed machine."""
        if how == "killed" and not any(process.is_alive for process in self.processes):
            self.store.machine_crashed()

    def audit(self, when: str) -> None:
        """Compare the store with the exchange; every difference fails the seed."""
        if self.is_contradicted and self.calm_since_s is None:
            return  # the sockets gave two versions; only REST can tell later which one is right
        stored = self.store.read()
        for difference in self.witness.truth.audit(stored) if stored is not None else ():
            self.fail(f"{when}: {difference}")

    def _wrote(self, end: End, data: bytes) -> None:
        if end.fate is not None and end.link.surface == "rest" and data.startswith(b"GET "):
            self.witness.asked(end.fate, data.split(b" ", 2)[1].decode())

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        if not self.is_over or "exception" in context:
            error = context.get("exception")
            self.fail(f"unhandled: {context.get('message')} {type(error).__name__} {error}", error)


class _LoopTime:
    """Replaces the `time` module in httpcore, which measures idle connections with it."""

    def __init__(self, loop: SimLoop) -> None:
        self.monotonic = loop.time
