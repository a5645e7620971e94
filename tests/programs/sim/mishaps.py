"""The execution of a plan's steps: faults of the node, its machine, its network and its exchange."""

from typing import TYPE_CHECKING, Any, Final

from app.domain.interval import MINUTE_MS
from infra.sandbox.faults import parse_fault
from tests.programs.sim.process import Process
from tests.programs.sim.schedule import Step

if TYPE_CHECKING:
    from tests.programs.sim.world import Sim

IP: Final = "127.0.0.1"


class Mishaps:
    """A method `do_<what>` for every kind of step."""

    def __init__(self, sim: "Sim") -> None:
        self._sim = sim

    def perform(self, step: Step) -> None:
        """Execute a step of the plan."""
        self._sim.trace(f"step {step}")
        self._sim.count(f"fault {step.kind}")
        getattr(self, f"do_{step.what}")(**step.args)

    def do_exchange(self, **wish: Any) -> None:
        """Set a fault of the sandbox exchange."""
        self._sim.is_contradicted |= wish["kind"] == "contradict"
        try:
            self._sim.exchange.control.inject(parse_fault(wish))
        except ValueError as error:
            self._sim.trace(f"the exchange refuses: {error}")

    def do_net_cut(self, surface: str, *, politely: bool) -> None:
        self._sim.network.cut(surface, politely=politely)

    def do_net_vanish(self, surface: str, direction: str) -> None:
        self._sim.network.vanish(surface, direction)

    def do_net_refuse(self, surface: str, duration_s: float) -> None:
        self._sim.network.refuse(surface, duration_s)

    def do_net_block(self, surface: str, duration_s: float, *, only_new: bool) -> None:
        self._sim.network.block(surface, duration_s, only_new=only_new)

    def do_net_slow(self, surface: str, duration_s: float, delay_s: float, bytes_per_s: float) -> None:
        self._sim.network.slow(surface, duration_s, delay_s, bytes_per_s)

    def do_disk_full(self, duration_s: float) -> None:
        self._sim.disk.set(is_full=True)
        self._sim.loop.call_later(duration_s, lambda: self._sim.disk.set(is_full=False))

    def do_disk_read_only(self, duration_s: float) -> None:
        self._sim.disk.set(is_read_only=True)
        self._sim.loop.call_later(duration_s, lambda: self._sim.disk.set(is_read_only=False))

    def do_disk_locked(self, duration_s: float) -> None:
        self._sim.store.lock(duration_s)

    def do_disk_slow(self, duration_s: float, work_s: float) -> None:
        self._sim.disk.slow_down(work_s, duration_s)

    def do_disk_low(self, duration_s: float) -> None:
        self._sim.disk.free_bytes = 1_000
        self._sim.loop.call_later(duration_s, setattr, self._sim.disk, "free_bytes", 1 << 40)

    def do_database_stop(self, duration_s: float) -> None:
        self._sim.postgres.stop(duration_s)

    def do_database_demote(self, duration_s: float) -> None:
        self._sim.postgres.demote(duration_s)

    def do_session_end(self, number: int) -> None:
        self._sim.postgres.end_session(number)

    def do_clock_jump(self, ms: int) -> None:
        self._sim.machine.jump(ms)

    def do_kill(self, who: int, after_steps: int, down_s: float, *, silently: bool) -> None:
        self._process(who).kill(after_steps, down_s, silently=silently)

    def do_stop(self, who: int, down_s: float) -> None:
        self._process(who).stop(down_s)

    def do_freeze(self, who: int, duration_s: float) -> None:
        fate = self._process(who).fate
        self._sim.frozen[fate] = None
        self._sim.loop.freeze(fate, duration_s)

    def do_neighbour(self, weight_per_s: int, duration_s: float) -> None:
        """Have another program on the node's IP use weight; after a 429 it stops for the rest of the minute."""
        ends_s = self._sim.loop.time() + duration_s

        def ask() -> None:
            now_ms = self._sim.clock.now_ms()
            self._sim.neighbour_minutes.add(now_ms // MINUTE_MS)
            verdict = self._sim.exchange.limiter.admit(IP, weight_per_s, now_ms)
            pause_s = 1.0 if verdict.status == 200 else float(verdict.retry_after_s or 60)
            if self._sim.loop.time() + pause_s < ends_s and self._sim.calm_since_s is None:
                self._sim.loop.call_later(pause_s, ask)

        ask()

    def _process(self, who: int) -> Process:
        return self._sim.processes[who % len(self._sim.processes)]
