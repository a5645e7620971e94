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
