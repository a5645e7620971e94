"""A node as an operating system sees it: started, stopped by a signal, killed, frozen, and started again."""

import asyncio
import json
import os
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

import httpx

from app.events import Event, NodeStarted, NodeStopped, StandDownBegan, TaskEnded
from app.node.node import Node
from app.node.parts import Parts
from app.node.prepare import CannotStart, prepare
from app.settings import Settings
from infra.local.rate_state import LocalRateState
from infra.postgres.lease import PostgresLease
from infra.sqlite.lease import WriterLease
from tests.programs.sim.loop import PROCESS, Fate

if TYPE_CHECKING:
    from tests.programs.sim.world import Sim, Store

RESTART_S: Final = 5.0  # systemd's pause (deploy/systemd) before it restarts a process that ended by itself
DRAIN_S_MAX: Final = 4.0  # app/server.py: time for requests in flight at a shutdown
SHUTDOWN_S_MAX: Final = 10.0  # the node's promise


class SimParts(Parts):
    """The parts of a node; the simulation decides how much disk space is free."""

    store_of_sim: "Store"

    def disk_free_bytes(self) -> int | None:
        return self.store_of_sim.free_bytes()


class Process:
    """One klinenode process and its successors after every restart."""

    def __init__(self, sim: "Sim", name: str) -> None:
        self.sim, self.name = sim, name
        self.fate = Fate(name, self._on_killed)
        self.fate.is_dead = True
        self.node: Node | None = None
        self.is_up = False
        self.starts = self.kills = self.stops = 0
        self.stand_downs: list[tuple[float, float]] = []
        """By stand-down of the living process: when it was announced and when it ends (virtual s)."""
        self.queries: dict[asyncio.Task[Any], None] = {}
        self.client: httpx.AsyncClient | None = None
        self._stopping: asyncio.Event | None = None
        self._down_s = RESTART_S
        self._is_silent = False
        self._context = Context()

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return not self.fate.is_dead

    def start(self) -> None:
        """Start the process, unless it is running."""
        if self.is_alive:
            return
        self.starts += 1
        self.fate = Fate(f"{self.name}.{self.starts}", self._on_killed)
        self.stand_downs, self.queries = [], {}
        self.sim.witness.started(self.fate)
        self._context = Context()
        self._context.run(PROCESS.set, self.fate)
        self.sim.trace(f"start {self.fate.name}")
        self.sim.loop.create_task(self._main(), name=self.fate.name, context=self._context)

    def stop(self, down_s: float) -> None:
        """Send SIGTERM; the process starts again `down_s` seconds after its end."""
        if self.is_alive and self._stopping is not None and not self._stopping.is_set():
            self._down_s = down_s
            self.stops += 1
            self.sim.loop.call_soon(self._stopping.set, context=self._context)

    def kill(self, after_steps: int, down_s: float, *, silently: bool) -> None:
        """Send SIGKILL, `after_steps` callbacks from now; `silently`: the exchange gets no FIN or RST."""
        if self.is_alive:
            self._down_s, self._is_silent = down_s, silently
            self.fate.kill_at_step = self.fate.steps + after_steps

    def standing_until_ms(self) -> int:
        """When the process's stand-down ends (ms); 0 when there is none."""
        active = self.node.parts.guard.active() if self.node else None
        return active.until_ms if active else 0

    def run_inside(self, coro: Any) -> asyncio.Task[Any]:
        """Run a coroutine as part of the process."""
        context: Context = self._context.run(copy_context)
        return self.sim.loop.create_task(coro, context=context)

    async def _main(self) -> None:
        sim, fate = self.sim, self.fate
        self._stopping = asyncio.Event()
        try:
            settings = sim.settings()
            await prepare(settings)
            self.node = node = self._make(settings)
            transport = httpx.ASGITransport(app=node.app, raise_app_exceptions=False)
            self.client = httpx.AsyncClient(transport=transport, base_url="http://node")
            async with node.running():
                self.is_up = True
                await self._stopping.wait()
                stopping_s = sim.loop.time()
                self.is_up = False
                await self._drain()
                sim.trace(f"stopping {fate.name}")
            self._check_stop(stopping_s)
        except (OSError, CannotStart) as error:
            sim.trace(f"{fate.name} could not start: {error}")
            sim.count("could not start")
            self._down_s = RESTART_S
        except Exception as error:  # noqa: BLE001  any exception is a finding of the seed
            sim.fail(f"{fate.name} ended with {type(error).__name__}: {error}", error)
            self._down_s = RESTART_S
        self.is_up = False
        sim.loop.call_later(1.0, self._check_leaks, fate, context=Context())

    def _make(self, settings: Settings) -> Node:
        SimParts.store_of_sim = self.sim.store
        seed = self.sim.plan.seed * 1_000 + self.starts
        return Node(SimParts(settings, self.sim.machine, seed, [self._observe]))

    async def _drain(self) -> None:
        if self.queries:
            await asyncio.wait(list(self.queries), timeout=DRAIN_S_MAX)
        for task in list(self.queries):
            task.cancel()

    def _observe(self, event: Event) -> None:
        sim = self.sim
        if not isinstance(event, NodeStarted | NodeStopped):
            sim.trace(f"{self.fate.name} {event}" if not isinstance(event, TaskEnded) else f"{event.name} ended")
        sim.count(f"event {type(event).__name__}")
        if isinstance(event, StandDownBegan) and self.node is not None:
            now_s, ends_ms = sim.loop.time(), event.until_ms
            left_ms = min(ends_ms - self.node.parts.clock.now_ms(), ends_ms - sim.clock.now_ms())
            self.stand_downs.append((now_s, now_s + left_ms / 1_000))
        if isinstance(event, TaskEnded):
            sim.fail(f"{self.fate.name}: task {event.name} ended: {event.reason}", event.crash)

    def _check_stop(self, since_s: float) -> None:
        took_s = self.sim.loop.time() - since_s
        if took_s > SHUTDOWN_S_MAX + 30 * self.sim.disk.work_s_since(since_s) and not self.sim.was_frozen(self.fate):
            self.sim.fail(f"{self.fate.name} took {took_s:.1f} s to stop")

    def _check_leaks(self, fate: Fate) -> None:
        """Fail the seed if tasks or connections are left after a clean end; then mark the process as dead."""
        sim = self.sim
        if fate.is_dead:
            return
        if fate.parked is not None:
            sim.loop.call_later(1.0, self._check_leaks, fate, context=Context())
            return
        if tasks := sim.loop.tasks_of(fate):
            sim.fail(f"{fate.name} left tasks behind: {tasks}")
        if ends := [end for end in sim.network.of(fate) if not end.is_closing()]:  # closing may take a while
            sim.fail(f"{fate.name} left {len(ends)} connections open")
        if number := sim.disk.of(fate):
            sim.fail(f"{fate.name} left {number} database connections open")
        fate.is_dead = True
        self._after_death(fate, "ended")

    def _on_killed(self) -> None:
        sim, fate = self.sim, self.fate
        self.kills += 1
        self.is_up = False
        sim.count("killed")
        sim.network.bury(fate, silently=self._is_silent)
        fate.graveyard.extend((self.node, self.client, *self.queries))
        for holder in (self.node.parts.lease, self.node.parts.upstream.rate_state) if self.node else ():
            assert isinstance(holder, WriterLease | PostgresLease | LocalRateState)
            if not isinstance(holder, PostgresLease) and holder._fd is not None:
                os.close(holder._fd)  # the kernel releases the locks and keeps what was written
                holder._fd = None
        sim.disk.abandon(fate)
        sim.graveyard.append(fate)
        self.queries = {}
        self._after_death(fate, "killed")

    def _after_death(self, fate: Fate, how: str) -> None:
        sim = self.sim
        sim.trace(f"{how} {fate.name} at step {fate.steps}")
        self.node = self.client = self._stopping = None
        sim.audit(f"after {fate.name} {how}")
        if not sim.is_over:
            sim.processes_changed(how)
            sim.loop.call_later(self._down_s, self.start, context=Context())
        self._down_s = RESTART_S

    def __str__(self) -> str:
        return json.dumps({"name": self.name, "starts": self.starts, "kills": self.kills, "stops": self.stops})
