"""Files that only the node's own user may open.

A user who may open a file, even only for reading, can hold a lock on it: a lock file that others may read would let any
local user stop the writer.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
STRANGERS: Final = 0o007


def open_private(path: Path) -> int:
    """Open the file at `path` for reading and writing, create it if missing, and return its descriptor. Raises OSError.

    If an earlier version or another umask left the file readable for others, its mode is changed. A symbolic link is
    refused: in a folder that others may write to, they could make the node truncate a file of their choice.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        found = os.fstat(fd)
        if stat.S_IMODE(found.st_mode) & ~FILE_MODE and found.st_uid == os.geteuid():
            os.fchmod(fd, FILE_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def create_private(path: Path) -> None:
    """Create an empty file at `path` if there is none. Raises OSError.

    An existing file is not opened: closing a descriptor would release the locks that SQLite holds on it in this
    process.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def close_to_strangers(path: Path) -> None:
    """Remove the permissions of other users on a file that this user owns; those of its group are kept."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and found.st_mode & STRANGERS and found.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(found.st_mode) & ~STRANGERS)
