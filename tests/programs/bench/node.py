"""A node on a pinned clock, served as by `klinenode serve`: `python -m tests.programs.bench.node CLOCK READS`.

The node counts in the file READS how often an answer read the database.
"""

import mmap
import struct
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from app import server
from app.node.parts import Parts
from app.node.stores import set_up_libraries
from app.settings import Settings, load
from tests.programs.bench.pinned import PinnedClock

COUNT: Final = struct.Struct("<q")
P = ParamSpec("P")
T = TypeVar("T")


class Reads:
    """A counter in a file, which another process can read."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), COUNT.size)

    @classmethod
    def made(cls, path: Path) -> "Reads":
        """Create a counter at `path` with the value zero."""
        path.write_bytes(COUNT.pack(0))
        return cls(path)

    @property
    def count(self) -> int:
        """The number of reads so far."""
        return int(COUNT.unpack_from(self._shared)[0])

    def counting(self, read: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Wrap `read` so that each call is counted."""

        @wraps(read)
        async def counted(*args: P.args, **kwargs: P.kwargs) -> T:
            COUNT.pack_into(self._shared, 0, self.count + 1)
            return await read(*args, **kwargs)

        return counted


def main() -> None:
    """Serve with settings from the environment until the process is stopped."""
    set_up_libraries()
    clock, reads = PinnedClock(Path(sys.argv[1])), Reads(Path(sys.argv[2]))

    def made(settings: Settings) -> Parts:
        parts = Parts(settings, clock)
        for name in ("read", "read_encoded"):
            setattr(parts.reader, name, reads.counting(getattr(parts.reader, name)))
        return parts

    assert vars(server)["Parts"] is Parts, "the server makes the parts of its nodes elsewhere by now"
    vars(server)["Parts"] = made
    server.run(load())


if __name__ == "__main__":
    main()
