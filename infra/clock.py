"""The machine's clock, the only place where wall time is read and where waiting happens."""

import asyncio
import functools
import time
from pathlib import Path
from typing import Final

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's CLOCK_MONOTONIC stands still while the machine is suspended; elsewhere it is all there is."""


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class SystemClock:
    """Wall time of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000  # noqa: TID251  the one place

    def steady_ms(self) -> int:
        """Milliseconds since the machine started; setting the clock does not move it."""
        return time.clock_gettime_ns(_STEADY) // 1_000_000

    def boot(self) -> str:
        """The number that Linux gives each start of the machine; "" elsewhere."""
        return _boot()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` real seconds."""
        await asyncio.sleep(delay_s)  # noqa: TID251  the one place


class ScaledClock:
    """A clock that starts at `start_ms` and runs `speed` times as fast as the machine's: for demos and tests."""

    def __init__(self, start_ms: int, speed: float) -> None:
        assert speed > 0, "speed must be positive"
        self._start_ms = start_ms
        self._speed = speed
        self._origin_ns = time.monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, in this clock's time."""
        elapsed_ns = time.monotonic_ns() - self._origin_ns
        return self._start_ms + int(elapsed_ns * self._speed) // 1_000_000

    def steady_ms(self) -> int:
        """Milliseconds that nobody can set: this clock is one of those already."""
        return self.now_ms()

    def boot(self) -> str:
        """No other process counts from where this clock does."""
        return ""

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        await asyncio.sleep(delay_s / self._speed)  # noqa: TID251  the one place
