"""A clock that runs faster than the machine's, and for which no moment of work lasts long."""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

STEP_NS: Final = 1_000_000  # the least that a selector waits, if it waits
STEP_S: Final = STEP_NS / 1e9
WORK_NS_MAX: Final = 5_000_000  # what a turn of the loop takes at most on an idle machine, nearly always
LOOK_NS: Final = 4_000_000  # reading Linux's counters costs some 10 µs a thread
_TASKS: Final = Path("/proc/self/task")

Select = Callable[[float | None], list[Any]]
"""The method of a selector by which a loop waits: for the seconds given, for ever (None), or not at all (0)."""


def kept_waiting_ns() -> dict[str, int]:
    """By thread of this process: how long (ns) it was ready to run without a processor; empty if not counted."""
    waited_ns = {}
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        try:
            waited_ns[task.name] = int((task / "schedstat").read_text().split()[1])
        except OSError:
            continue  # the thread has ended, or the kernel does not count
    return waited_ns


class LoopTime:
    """The time (ns) of an event loop to which the machine gives all it asks for.

    When a test's minute passes in a second, a collection of garbage, a page that is read from disk or a moment in which
    other programs occupy the processors would last for minutes of the test's time. So a turn of the loop counts for
    WORK_NS_MAX at most, and waiting for no longer than the loop asked for, without the time for which a thread of this
    process was ready to run and Linux gave it no processor (/proc/…/schedstat).
    """

    def __init__(
        self, elapsed: Callable[[], int] = time.monotonic_ns, waited: Callable[[], dict[str, int]] = kept_waiting_ns
    ) -> None:
        self._elapsed, self._waited = elapsed, waited
        self._waited_ns = waited()
        self._woke_ns = elapsed()
        self.ns = 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the time of `loop` from now on."""
        selector = loop._selector  # type: ignore[attr-defined]  # there is no public way to a running loop's selector
        selector.select = self.counted(selector.select)

    def counted(self, select: Select) -> Select:
        """`select`, with the time counted that it takes."""

        def counted_select(timeout: float | None = None) -> list[Any]:
            began_ns = self._elapsed()
            self.ns += min(began_ns - self._woke_ns, WORK_NS_MAX)
            ready = select(timeout)
            self._woke_ns = self._elapsed()
            rest_ns = self._woke_ns - began_ns
            if rest_ns > LOOK_NS:
                rest_ns = max(0, rest_ns - self._kept_ns())
            if timeout is not None:
                rest_ns = min(rest_ns, math.ceil(max(0.0, timeout) / STEP_S) * STEP_NS)
            self.ns += rest_ns
            return ready

        return counted_select

    def _kept_ns(self) -> int:
        before_ns, self._waited_ns = self._waited_ns, self._waited()
        return max((now_ns - before_ns.get(task, 0) for task, now_ns in self._waited_ns.items()), default=0)

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this time."""
        end_ns = self.ns + int(delay_s * 1e9)
        while True:
            rest_s = (end_ns - self.ns) / 1e9
            await asyncio.sleep(max(STEP_S, rest_s) if rest_s > 0 else 0)  # noqa: TID251  the only sleep of these clocks
            if self.ns >= end_ns:
                return


class ScaledClock:
    """A clock that starts at `start_ms` and runs `speed` times as fast as the time of the running loop."""

    def __init__(self, start_ms: int, speed: float) -> None:
        assert speed > 0, "speed must be positive"
        self._loop = LoopTime()
        self._loop.watch(asyncio.get_running_loop())
        self._start_ms = start_ms
        self._speed = speed
        self._origin_ns = 0

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch on this clock."""
        elapsed_ns = self._loop.ns - self._origin_ns
        return self._start_ms + int(elapsed_ns * self._speed) // 1_000_000

    def steady_ms(self) -> int:
        """Milliseconds on a clock that cannot be set: this one cannot."""
        return self.now_ms()

    def boot(self) -> str:
        """An empty boot id: no other process shares this clock's origin."""
        return ""

    def set_speed(self, speed: float) -> None:
        """Continue from the present time at another speed."""
        self._start_ms, self._origin_ns, self._speed = self.now_ms(), self._loop.ns, speed

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        await self._loop.sleep(delay_s / self._speed)
