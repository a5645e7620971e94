"""Places: a number of its own for each living process that has a shared file open.

A place is a lock on a byte beyond the end of the file, which the kernel frees when the process ends.
"""

import fcntl
import os
import struct
from typing import Final

PROCESSES_MAX: Final = 64  # more workers and instances than a machine has use for
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of <fcntl.h>: type, whence, start, len, pid
_BEGIN: Final = 1 << 20


def take_place(fd: int) -> int:
    """Lock the first place of a file that no living process has, and return its number. Raises OSError."""
    for number in range(PROCESSES_MAX):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BEGIN + number, 1, 0))
        except (BlockingIOError, PermissionError):  # either one means that another process has it
            continue
        return number
    raise OSError(f"{PROCESSES_MAX} processes use it already")


def is_taken(fd: int, number: int) -> bool:
    """Whether another process that lives has the place."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BEGIN + number, 1, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)
