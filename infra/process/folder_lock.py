"""A folder that one process uses at a time: a lock on a file in it, which the kernel frees when the process ends."""

import fcntl
import os
from pathlib import Path
from typing import Final

from infra.process.private_file import FOLDER_MODE, open_private

LOCK_FILE: Final = "lock"


class FolderTaken(Exception):
    """Another process uses the folder."""


class FolderLock:
    """Holds the lock from the making until `release`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is missing, and lock it. Raises FolderTaken, OSError."""
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._fd = open_private(folder / LOCK_FILE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise FolderTaken(f"another process uses {folder}") from error
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Free the folder."""
        os.close(self._fd)
