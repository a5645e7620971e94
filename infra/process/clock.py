"""The machine's clock, the only place that reads wall time and sleeps."""

import asyncio
import functools
import time
from pathlib import Path
from typing import Final

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux' CLOCK_MONOTONIC stops while the machine is suspended; other systems have only that one."""


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class SystemClock:
    """The wall clock and the monotonic clock of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000  # noqa: TID251  the one place

    def steady_ms(self) -> int:
        """Milliseconds since the machine was booted; not changed by setting the wall clock."""
        return time.clock_gettime_ns(_STEADY) // 1_000_000

    def boot(self) -> str:
        """Linux' boot_id, a new one at each boot; "" on other systems."""
        return _boot()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` real seconds."""
        await asyncio.sleep(delay_s)  # noqa: TID251  the one place
