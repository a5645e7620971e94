"""A clock that runs faster than the machine's and stops while this process waits for a processor."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

LOOK_NS: Final = 4_000_000  # reading Linux's counters costs some 10 µs a thread
_TASKS: Final = Path("/proc/self/task")


def kept_waiting_ns() -> dict[str, int]:
    """By thread of this process: how long (ns) it was ready to run without a processor; empty if not counted."""
    waited_ns = {}
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        try:
            waited_ns[task.name] = int((task / "schedstat").read_text().split()[1])
        except OSError:
            continue  # the thread has ended, or the kernel does not count
    return waited_ns


class GrantedTime:
    """The time (ns) in which the machine let this process run, or rest by its own choice.

    When a test's minute passes in a second and other programs occupy the processors, a moment of work would last for
    minutes of the test's time. Linux counts how long each thread waited for a processor (/proc/…/schedstat); the
    largest wait of any thread is subtracted.
    """

    def __init__(
        self, elapsed: Callable[[], int] = time.monotonic_ns, waited: Callable[[], dict[str, int]] = kept_waiting_ns
    ) -> None:
        self._elapsed, self._waited = elapsed, waited
        self._granted_ns = self._newest_ns = 0
        self._looked_ns = elapsed()
        self._waited_ns = waited()

    def now_ns(self) -> int:
        """Nanoseconds since the start, never less than returned before."""
        elapsed_ns = self._elapsed() - self._looked_ns
        if elapsed_ns < LOOK_NS:
            self._newest_ns = max(self._newest_ns, self._granted_ns + elapsed_ns)
            return self._newest_ns
        waited_ns = self._waited()
        kept_ns = max((waited_ns[task] - self._waited_ns.get(task, 0) for task in waited_ns), default=0)
        self._granted_ns += max(0, elapsed_ns - kept_ns)
        self._newest_ns = max(self._newest_ns, self._granted_ns)
        self._looked_ns += elapsed_ns
        self._waited_ns = waited_ns
        return self._newest_ns

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this time."""
        end_ns = self.now_ns() + int(delay_s * 1e9)
        while True:
            await asyncio.sleep(max(0.0, (end_ns - self.now_ns()) / 1e9))  # noqa: TID251  the only sleep of these clocks
            if self.now_ns() >= end_ns:
                return


class ScaledClock:
    """A clock that starts at `start_ms` and runs `speed` times as fast as the time granted to this process."""

    def __init__(self, start_ms: int, speed: float) -> None:
        assert speed > 0, "speed must be positive"
        self._granted = GrantedTime()
        self._start_ms = start_ms
        self._speed = speed
        self._origin_ns = self._granted.now_ns()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch on this clock."""
        elapsed_ns = self._granted.now_ns() - self._origin_ns
        return self._start_ms + int(elapsed_ns * self._speed) // 1_000_000

    def steady_ms(self) -> int:
        """Milliseconds on a clock that cannot be set: this one cannot."""
        return self.now_ms()

    def boot(self) -> str:
        """An empty boot id: no other process shares this clock's origin."""
        return ""

    def set_speed(self, speed: float) -> None:
        """Continue from the present time at another speed."""
        self._start_ms, self._origin_ns, self._speed = self.now_ms(), self._granted.now_ns(), speed

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        await self._granted.sleep(delay_s / self._speed)
