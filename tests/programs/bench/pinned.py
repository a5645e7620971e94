"""A clock that the bench sets and several processes read: it stands, jumps, or runs with the machine's."""

import mmap
import struct
from pathlib import Path
from time import monotonic_ns
from typing import Final

from infra.process.clock import SystemClock

_LAYOUT: Final = struct.Struct("<qqq")  # the clock's time in ms, the machine's ns at that moment, whether it runs
_machine: Final = SystemClock()


class PinnedClock:
    """A Clock that reads its time from a small shared file. `sleep` takes real time, also while the clock stands."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _LAYOUT.size)

    @classmethod
    def made(cls, path: Path, now_ms: int) -> "PinnedClock":
        """Create a clock at `path` that stands at `now_ms`."""
        path.write_bytes(_LAYOUT.pack(now_ms, monotonic_ns(), 0))
        return cls(path)

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        now_ms, at_ns, runs = _LAYOUT.unpack_from(self._shared)
        return int(now_ms + (monotonic_ns() - at_ns) // 1_000_000) if runs else int(now_ms)

    def steady_ms(self) -> int:
        """The same as `now_ms`."""
        return self.now_ms()

    def boot(self) -> str:
        """Empty: this clock does not depend on the machine's boot."""
        return ""

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` real seconds."""
        await _machine.sleep(delay_s)

    def set(self, now_ms: int, *, runs: bool = False) -> None:
        """Set the clock to `now_ms`, and let it stand or run from there."""
        _LAYOUT.pack_into(self._shared, 0, now_ms, monotonic_ns(), runs)
