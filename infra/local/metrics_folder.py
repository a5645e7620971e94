"""The folder for the metrics of one server's workers, unique also if several servers share a database."""

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from infra.process.private_file import FOLDER_MODE
from infra.process.runtime_dir import NAME_BYTES_MAX, beside

TRIES_MAX: Final = 100  # another server that starts at the same moment may remove a folder that is not locked yet
_UNIQUE_BYTES: Final = 4


class MetricsFolder:
    """Created by the parent of the workers, which holds a lock on the folder as long as it runs.

    Two servers may use the same PORT on one database, in two containers or on two addresses. If the folder were named
    by the port, one server would remove it while the other's workers use it.
    """

    def __init__(self, database: Path) -> None:
        """Create the folder, and remove folders of servers that were killed. Raises OSError."""
        self._prefix = beside(database, "metrics-", bytes_max=NAME_BYTES_MAX - 2 * _UNIQUE_BYTES)
        self._sweep()
        for _ in range(TRIES_MAX):
            self.path = self._prefix.with_name(self._prefix.name + secrets.token_hex(_UNIQUE_BYTES))
            self.path.mkdir(mode=FOLDER_MODE, parents=True)
            lock = _locked(self.path)
            if lock is not None:
                self._lock = lock
                return
        raise OSError(f"no folder can be kept beside {database}: something removes it at once")

    def remove(self) -> None:
        """Remove the folder with its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def _sweep(self) -> None:
        folder = self._prefix.parent
        for path in tuple(folder.iterdir()) if folder.is_dir() else ():
            if path.name.startswith(self._prefix.name) and (lock := _locked(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of the folder at `path`; None if it is locked or was removed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        is_ours = False
    if is_ours:
        return fd
    os.close(fd)
    return None
