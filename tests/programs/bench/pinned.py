"""A clock that several processes read alike and the bench owns: it stands, jumps, or runs with the machine's."""

import mmap
import struct
from pathlib import Path
from time import monotonic_ns
from typing import Final

from infra.process.clock import SystemClock

_LAYOUT: Final = struct.Struct("<qqq")  # its time in ms, the machine's ns at that moment, whether it runs
_machine: Final = SystemClock()


class PinnedClock:
    """Time out of a small shared file. Waiting is real: a node's own rhythms go on while the time stands."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _LAYOUT.size)

    @classmethod
    def made(cls, path: Path, now_ms: int) -> "PinnedClock":
        """A new clock at `path` that stands at `now_ms`."""
        path.write_bytes(_LAYOUT.pack(now_ms, monotonic_ns(), 0))
        return cls(path)

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        now_ms, at_ns, runs = _LAYOUT.unpack_from(self._shared)
        return int(now_ms + (monotonic_ns() - at_ns) // 1_000_000) if runs else int(now_ms)

    def steady_ms(self) -> int:
        """The same: this clock is the one thing that a bench moves."""
        return self.now_ms()

    def boot(self) -> str:
        """No start of the machine has to do with it."""
        return ""

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` real seconds."""
        await _machine.sleep(delay_s)

    def set(self, now_ms: int, *, runs: bool = False) -> None:
        """Put it to `now_ms`, to stand there or to run on from there."""
        _LAYOUT.pack_into(self._shared, 0, now_ms, monotonic_ns(), runs)
