"""The SQLite library of this process: that of the wheel pysqlite3 where it is installed, else that of Python.

Every connection of a process must be made by the same library. SQLite locks a file for the whole process (POSIX), and
each copy of the library knows its own connections only: when one copy closes a file, the other loses its locks.
"""

import ctypes
import sys
from typing import TYPE_CHECKING, Final

import aiosqlite
import aiosqlite.core

from app.ports.store import StoreLibrary

if TYPE_CHECKING:
    import _sqlite3 as extension
    import sqlite3  # noqa: TID251  the one place that chooses
else:
    try:
        from pysqlite3 import _sqlite3 as extension
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import _sqlite3 as extension
        import sqlite3  # noqa: TID251

__all__ = ["extension", "is_wal_safe", "linked", "sqlite3", "stop_counting"]

UNSAFE_NOTE: Final = (
    "SQLite {version} may lose commits when two connections write or checkpoint at one instant (fixed in 3.51.3, "
    "3.50.7 and 3.44.6). The node itself checkpoints on one connection only. Let no other program write to its "
    "database or checkpoint it, such as Litestream or a sqlite3 shell that writes"
)
_SQLITE_CONFIG_MEMSTATUS: Final = 9
_FIRST_UNSAFE: Final = (3, 7, 0)
_FIXED: Final = (3, 51, 3)
_BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))
"""Each fixes the later releases of its minor version as well."""


def is_wal_safe(version: tuple[int, int, int]) -> bool:
    """Whether SQLite `version` is free of the WAL-reset bug, by which a commit may be lost."""
    is_backport = any(fix <= version < (fix[0], fix[1] + 1, 0) for fix in _BACKPORTS)
    return version < _FIRST_UNSAFE or version >= _FIXED or is_backport


def linked() -> StoreLibrary:
    """The library that is linked, and what an operator has to know of it."""
    version = sqlite3.sqlite_version
    note = None if is_wal_safe(sqlite3.sqlite_version_info) else UNSAFE_NOTE.format(version=version)
    return StoreLibrary(sqlite3.__name__.partition(".")[0], version, note)


def stop_counting() -> bool:
    """Set SQLite not to count its memory, before it opens a database; False if its library cannot be accessed.

    By default it does so at every allocation, of which printing a row makes several, under a lock that all connections
    share. Measured for the encoded read of 1,500 rows: 1.6 ms instead of 2.1; in two threads on two cores 0.8 ms
    instead of 3.5.
    """
    if sys.platform != "linux":
        return False  # elsewhere variadic arguments may be passed in another way than ctypes does
    try:
        library = ctypes.CDLL(None)  # where the extension's own calls go, if another copy is in all of the process
        if not hasattr(library, "sqlite3_config"):
            library = ctypes.CDLL(getattr(extension, "__file__", None))
        shutdown, config, initialize = library.sqlite3_shutdown, library.sqlite3_config, library.sqlite3_initialize
    except (OSError, AttributeError):
        return False  # statically linked into Python, without symbols
    if shutdown() != 0:
        return False
    is_set = config(_SQLITE_CONFIG_MEMSTATUS, ctypes.c_int(0)) == 0
    return bool(initialize() == 0 and is_set)


def _bind_aiosqlite() -> None:
    """Let aiosqlite, which imports Python's sqlite3, connect by the library chosen here and name its errors."""
    aiosqlite.core.sqlite3 = sqlite3  # type: ignore[attr-defined]
    for name in set(aiosqlite.__all__) - {"__version__", "connect", "Connection", "Cursor"}:
        setattr(aiosqlite, name, getattr(sqlite3, name))


_bind_aiosqlite()
