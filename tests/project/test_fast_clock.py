"""For the tests' fast clock no moment of work lasts long."""

import asyncio

from tests.fakes import turn
from tests.fast_clock import LOOK_NS, STEP_NS, WORK_NS_MAX, LoopTime

MS = 1_000_000


class Machine:
    """A machine on which a selector waits as long as a test says, and threads lose what a test says."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.lost_ns = {"loop": 0, "reader": 0}
        self.time = LoopTime(lambda: self.now_ns, lambda: dict(self.lost_ns))

    def waits(self, asked_s: float | None, elapsed_ns: int, **lost_ns: int) -> int:
        """Let the loop ask for `asked_s` and come back after `elapsed_ns`; return the time (ns) counted for it."""

        def select(_: float | None) -> list[object]:
            self.now_ns += elapsed_ns
            for thread, more_ns in lost_ns.items():
                self.lost_ns[thread] += more_ns
            return []

        before_ns = self.time.ns
        self.time.counted(select)(asked_s)
        return self.time.ns - before_ns


def test_waiting_counts_and_work_does_for_a_moment() -> None:
    machine = Machine()
    assert machine.waits(0.003, 3 * MS) == 3 * MS
    machine.now_ns += 2 * MS
    assert machine.waits(None, 70 * MS) == 72 * MS
    machine.now_ns += 900 * MS
    assert machine.waits(None, 70 * MS) == 70 * MS + WORK_NS_MAX
    assert machine.waits(0, 5 * MS) == 0


def test_a_loop_that_is_woken_late_counts_what_it_asked_for() -> None:
    machine = Machine()
    assert machine.waits(0.002, 400 * MS) == 2 * MS
    assert machine.waits(0.002, 400 * MS, loop=398 * MS) == 2 * MS
    assert machine.waits(1e-7, 2 * MS) == STEP_NS


def test_what_the_thread_lost_that_lost_most_is_left_out() -> None:
    machine = Machine()
    assert machine.waits(None, 60 * MS, loop=50 * MS, reader=30 * MS) == 10 * MS
    assert machine.waits(None, 60 * MS) == 60 * MS
    assert machine.waits(None, LOOK_NS + 1, loop=2 * LOOK_NS) == 0


def test_a_thread_that_comes_or_ends_changes_nothing() -> None:
    machine = Machine()
    machine.lost_ns["unpacker"] = 0
    del machine.lost_ns["reader"]
    assert machine.waits(None, 60 * MS) == 60 * MS


async def test_the_running_loop_is_watched() -> None:
    time = LoopTime()
    time.watch(asyncio.get_running_loop())
    await turn()
    before_ns = time.ns
    end_s = asyncio.get_running_loop().time() + 0.05
    while asyncio.get_running_loop().time() < end_s:
        pass
    await turn()
    assert WORK_NS_MAX <= time.ns - before_ns < 10 * WORK_NS_MAX
    await time.sleep(0.0000001)
