"""The tests' fast clock stops while this process waits for a processor."""

from tests.fast_clock import LOOK_NS, GrantedTime


class Machine:
    """A machine whose elapsed time and waiting times a test sets."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.lost_ns = {"loop": 0, "reader": 0}
        self.granted = GrantedTime(lambda: self.now_ns, lambda: dict(self.lost_ns))

    def passes(self, elapsed_ns: int, **lost_ns: int) -> int:
        """Let time pass, some of it lost by threads; return the time (ns) granted since the start."""
        self.now_ns += elapsed_ns
        for thread, more_ns in lost_ns.items():
            self.lost_ns[thread] += more_ns
        return self.granted.now_ns()


def test_a_process_that_never_waits_sees_the_machines_time() -> None:
    machine = Machine()
    assert [machine.passes(LOOK_NS // 3) for _ in range(7)] == [LOOK_NS // 3 * number for number in range(1, 8)]


def test_what_the_thread_lost_that_lost_most_is_left_out() -> None:
    machine = Machine()
    assert machine.passes(60_000_000, loop=50_000_000, reader=30_000_000) == 10_000_000
    assert machine.passes(60_000_000) == 70_000_000


def test_a_thread_that_comes_or_ends_changes_nothing() -> None:
    machine = Machine()
    machine.lost_ns["unpacker"] = 0
    del machine.lost_ns["reader"]
    assert machine.passes(60_000_000) == 60_000_000


def test_time_never_goes_back() -> None:
    machine = Machine()
    assert machine.passes(LOOK_NS - 1) == LOOK_NS - 1
    assert machine.passes(LOOK_NS, loop=2 * LOOK_NS) == LOOK_NS - 1, "what was given cannot be taken back"
    assert machine.passes(LOOK_NS * 2) > LOOK_NS
