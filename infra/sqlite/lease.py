"""The writer lease of an SQLite database: a file lock beside it, which the kernel frees when its holder dies."""

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Final

from infra.process.private_file import open_private
from infra.process.runtime_dir import beside
from infra.sqlite.url import sqlite_path

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class WriterLease:
    """The right to write to the database that `db_url` names. At most one process has it at a time."""

    def __init__(self, db_url: str) -> None:
        database = sqlite_path(db_url)
        self._path = beside(database, "lock")
        self._fd: int | None = None

    def try_acquire(self, url: str) -> bool:
        """Take the lease without waiting; whether it is now held. `url` is where the holder's HTTP server answers.

        Raises OSError when the lock file cannot be made (no permission, no such file system feature).
        """
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = open_private(self._path)
            if not (_locked(fd, fcntl.LOCK_EX) and self._is_still(fd)):
                os.close(fd)
                return False
            self._fd = fd
        note = json.dumps({"pid": os.getpid(), "url": url}).encode()
        try:
            os.pwrite(self._fd, note, 0)
            os.ftruncate(self._fd, len(note))
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            os.ftruncate(self._fd, 0)  # on a full disk the lock holds all the same; it only does not say whose it is
        return True

    def is_held(self) -> bool:
        """Whether the lease is ours and others see it: whoever deletes the lock file lets a second writer in."""
        return self._fd is not None and self._is_still(self._fd)

    def release(self) -> None:
        """Give the lease back; nothing happens when it is not held."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def holder(self) -> str | None:
        """The address of the node that holds the lease, None when nobody does, "" when it has not said yet.

        Asking takes a shared lock for a moment, so an acquisition at that very moment fails and has to be tried again.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if self._fd is None and _locked(fd, fcntl.LOCK_SH):
                return None
            return _address(os.pread(fd, 4096, 0))
        finally:
            os.close(fd)

    def _is_still(self, fd: int) -> bool:
        """Whether the file behind `fd` is the one other processes will find (someone may have deleted it)."""
        try:
            return os.path.samestat(os.fstat(fd), Path.stat(self._path))
        except FileNotFoundError:
            return False


def _locked(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _address(note: bytes) -> str:
    try:
        return str(json.loads(note)["url"])
    except (ValueError, KeyError, TypeError):
        return ""
