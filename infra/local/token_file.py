"""The generated admin token of a node without ADMIN_TOKEN, in a file that only its own user can read.

The token proves that a request was made by this user, or root, of this machine. An address does not: through a proxy or
in a container's network, a stranger's request comes from a local address.
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
_TOKEN: Final = re.compile(rb"[!-~]{32,512}\s*")  # valid in a header, and long enough not to be guessed


class TokenFile:
    """The token file of a database, kept across restarts. If it is deleted, the next request creates a new token."""

    def __init__(self, database: Path) -> None:
        self.path = beside(database, "token")

    def read(self) -> str | None:
        """The token, to be sent in a request; None when there is none. Raises OSError."""
        try:
            content = self.path.read_bytes()[:FILE_BYTES_MAX]
        except FileNotFoundError:
            return None
        return content.decode().strip() if _TOKEN.fullmatch(content) else None

    def token(self) -> str:
        """The token; a new one if there is none, or others could read it. Raises OSError if it cannot be stored."""
        was_open = self._is_open_to_others()
        fd = open_private(self.path)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & ~FILE_MODE:
                raise PermissionError(f"{self.path} belongs to another user, or cannot be closed to others")
            content = os.pread(fd, FILE_BYTES_MAX + 1, 0)
            if was_open or not _TOKEN.fullmatch(content):
                fcntl.flock(fd, fcntl.LOCK_EX)  # of several starting processes, the first one creates it
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
        """Whether other users may have read the file."""
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & ~FILE_MODE)
        except FileNotFoundError:
            return False
