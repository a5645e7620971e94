"""The writer lease of an SQLite database: an flock on `<database>.lock`, released by the kernel if its holder dies."""

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
    """The right to write to the database of `db_url`. At most one process holds it."""

    def __init__(self, db_url: str) -> None:
        database = sqlite_path(db_url)
        self._path = beside(database, "lock")
        self._fd: int | None = None

    async def try_acquire(self, url: str) -> bool:
        """Try to take the lease without waiting, and return whether this process now holds it.

        `url`, the address of this process' HTTP server, is written to the lock file. Raises OSError when that cannot be
        created (no permission, or a file system without locks).
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
            os.ftruncate(self._fd, 0)  # on a full disk the lock is held too; only the holder's address is missing
        return True

    def is_held(self) -> bool:
        """Whether this process holds the lock of the file at the path; a deleted lock file lets in a second writer."""
        return self._fd is not None and self._is_still(self._fd)

    async def renew(self, url: str) -> bool:
        """False: whoever deleted the lock file lets in another writer."""
        return False

    async def release(self) -> None:
        """Release the lease; does nothing when it is not held."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    async def holder(self) -> str | None:
        """The URL of the process that holds the lease; None when nobody does, "" when it has not written it yet.

        This takes a shared lock for a moment, so `try_acquire` of another process at that moment fails once.
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
        """Whether the path still names the file open at `fd`; somebody may have deleted it."""
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
