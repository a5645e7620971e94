"""What the C library does with memory that was given back to it: it returns large blocks to the system at once.

By itself glibc keeps them: each thread may have an arena of its own (eight for each core), and the first large block
that is freed makes it take all later ones from an arena, where one small block above them holds them for ever.
Measured with 60 symbols after a backfill of months under load: 251 MB instead of 302 in the process that writes.
"""

import ctypes
from typing import Final

ARENAS_MAX: Final = 2  # one for the event loop, one for the threads beside it; more would only be more to keep
LARGE_BYTES: Final = 1024 * 1024  # files and sheets of the archive; answers, of which there are many, are smaller
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3


def return_large_blocks() -> bool:
    """Set it for this process, before it has threads; False where the C library offers no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl, macOS: they have no arenas to begin with
    return bool(mallopt(_M_ARENA_MAX, ARENAS_MAX)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
