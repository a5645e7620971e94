"""Files that only the node's own user may open: locks, shared state, the admin token.

Whoever may open a file may hold a lock on it, also one that can only read it: a lock file that others may read lets any
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
    """A descriptor of the file at `path`, made if there is none, open for reading and writing. Raises OSError.

    A file that an earlier version or another umask left open to more users is closed to them. A symbolic link is
    refused: in a folder that others may write to, it would have us truncate a file of their choice.
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
    """Make the file at `path`, empty, if there is none. Raises OSError.

    One that exists is not opened: closing a descriptor drops the locks that SQLite has on the file in this process.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def close_to_strangers(path: Path) -> None:
    """Take a file of ours away from users who are not of its group; a group is the operator's own choice."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode) and found.st_mode & STRANGERS and found.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(found.st_mode) & ~STRANGERS)
