"""The admin token of a node that none was given: a file beside its database that only its own user can read.

It proves what no address can: that a request was made by this user, or root, of this machine. Through a proxy, and in a
container's network, a stranger's request comes from the address of a neighbour.
"""

import fcntl
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from infra.process.private_file import FILE_MODE, open_private
from infra.process.runtime_dir import beside

TOKEN_BYTES: Final = 32
FILE_BYTES_MAX: Final = 1_024
_TOKEN: Final = re.compile(rb"[!-~]{32,512}\s*")  # what can be sent in a header and not be guessed


class TokenFile:
    """The file of one database. It is kept over restarts; deleting it renews the token at the next request."""

    def __init__(self, database: Path) -> None:
        self.path = beside(database, "token")

    def read(self) -> str | None:
        """The token, for who wants to send it; None when there is none. Raises OSError."""
        try:
            content = self.path.read_bytes()[:FILE_BYTES_MAX]
        except FileNotFoundError:
            return None
        return content.decode().strip() if _TOKEN.fullmatch(content) else None

    def token(self) -> str:
        """The token, made when there is none that is only ours. Raises OSError when none can be kept here."""
        was_open = self._is_open_to_others()
        fd = open_private(self.path)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & ~FILE_MODE:
                raise PermissionError(f"{self.path} belongs to another user, or cannot be closed to others")
            content = os.pread(fd, FILE_BYTES_MAX + 1, 0)
            if was_open or not _TOKEN.fullmatch(content):
                fcntl.flock(fd, fcntl.LOCK_EX)  # of processes that start together the first one makes it
                content = os.pread(fd, FILE_BYTES_MAX + 1, 0)
                if was_open or not _TOKEN.fullmatch(content):
                    content = secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n"
                    os.ftruncate(fd, 0)
                    if os.pwrite(fd, content, 0) != len(content):
                        raise OSError(f"{self.path} cannot be written: the disk is full")
        finally:
            os.close(fd)
        return content.decode().strip()

    def _is_open_to_others(self) -> bool:
        """Whether others may have read what is in the file."""
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & ~FILE_MODE)
        except FileNotFoundError:
            return False
