"""Which processes are reading the database, found by the locks of SQLite's readers; for messages."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

LOCKS: Final = Path("/proc/locks")
PROCESSES: Final = Path("/proc")
READ_MARKS: Final = range(123, 128)
"""Bytes of the -shm file; each reader of the log locks one of them (SQLite's WAL_READ_LOCK 0 to 4)."""
NAMED_MAX: Final = 3


def reading_processes(database: Path) -> frozenset[int]:
    """The ids of other processes inside a read transaction; empty where the system does not list locks.

    Processes of other containers are not listed. The -shm file itself must not be opened: closing it would release the
    locks that this process's own connections hold on it.
    """
    found = set()
    with suppress(OSError, ValueError):  # no such file, or not in Linux' form
        inode = str(database.with_name(f"{database.name}-shm").stat().st_ino)
        for line in LOCKS.read_text().splitlines():
            kind, _, mode, pid, where, first, *_ = line.split()[1:]
            if kind == "POSIX" and mode == "READ" and where.endswith(f":{inode}") and int(first) in READ_MARKS:
                found.add(int(pid))
    return frozenset(found - {os.getpid()})


def named(pids: frozenset[int]) -> str:
    """The processes as text: program name and process id of each."""
    shown = ", ".join(f"{_program(pid)} (process {pid})" for pid in sorted(pids)[:NAMED_MAX])
    return shown if len(pids) <= NAMED_MAX else f"{shown} and {len(pids) - NAMED_MAX} more"


def _program(pid: int) -> str:
    with suppress(OSError):
        return PROCESSES.joinpath(str(pid), "comm").read_text(errors="replace").strip() or "a program"
    return "a program"
