"""How C libraries deal with memory in our processes; to be set before there are threads or databases.

glibc returns large blocks to the system at once. By itself it keeps them: each thread may have an arena of its own
(eight for each core), and the first large block that is freed makes it take all later ones from an arena, where one
small block above them holds them for ever. Measured with 60 symbols after a backfill of months under load: 251 MB
instead of 302 in the process that writes.

SQLite does not count its memory. By itself it does so under a lock that all connections share, at every allocation, of
which printing a row makes several. Measured for the encoded read of 1,500 rows: 1.6 ms instead of 2.1; in two threads
on two cores 0.8 ms instead of 3.5.
"""

import _sqlite3
import ctypes
import sys
from typing import Final

ARENAS_MAX: Final = 2  # one for the event loop, one for the threads beside it; more would only be more to keep
LARGE_BYTES: Final = 1024 * 1024  # files and images of the archive; answers, of which there are many, are smaller
_M_ARENA_MAX: Final = -8
_M_MMAP_THRESHOLD: Final = -3
_SQLITE_CONFIG_MEMSTATUS: Final = 9


def return_large_blocks() -> bool:
    """Set it for this process, before it has threads; False where the C library offers no such thing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl, macOS: they have no arenas to begin with
    return bool(mallopt(_M_ARENA_MAX, ARENAS_MAX)) and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))


def stop_sqlite_counting() -> bool:
    """Set it for this process, before it opens a database; False where Python's SQLite is out of reach."""
    if sys.platform != "linux":
        return False  # elsewhere the call's second argument may be passed in another way than ctypes does
    try:
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        shutdown, config, initialize = library.sqlite3_shutdown, library.sqlite3_config, library.sqlite3_initialize
    except (OSError, AttributeError):
        return False  # built into Python without its names
    if shutdown() != 0:
        return False
    is_set = config(_SQLITE_CONFIG_MEMSTATUS, ctypes.c_int(0)) == 0
    return bool(initialize() == 0 and is_set)
