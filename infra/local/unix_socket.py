"""Where the Unix sockets of a database are, whatever the length of its path and its file system.

A socket is in the folder of the database, so that processes in other containers that share the folder find it. The
kernel accepts at most 107 bytes as a socket's path; a longer path is named through an open descriptor of its folder. If
the folder's file system has no sockets, or /proc is missing, the socket is in a folder of the user, named by a hash of
the database's path.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from infra.lines.line import ProtocolT
from infra.process.private_file import FILE_MODE, FOLDER_MODE
from infra.process.runtime_dir import beside

_PATH_BYTES_MAX: Final = 100  # the kernel accepts 107
_NAME_BYTES_MAX: Final = 80  # behind "/proc/self/fd/<number>/"
_SESSIONS: Final = Path("/run/user")  # has a folder for each user with a login session
_DIGITS: Final = 32  # hex digits of the hash that names a database in the user's folder


class UnixSocket:
    """One socket of a database, named by its file's `ending`."""

    def __init__(self, database: Path, ending: str) -> None:
        digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:_DIGITS]
        self._beside = beside(database, ending, bytes_max=_NAME_BYTES_MAX)
        self._elsewhere = tuple(folder / f"{digest}.{ending}" for folder in _own_folders())
        self._bound: tuple[Path, os.stat_result] | None = None
        self._server: asyncio.Server | None = None

    async def serve(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Bind a socket at the first possible place, and accept connections. Raises OSError."""
        listener = self._bind()
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(make, sock=listener)
        except NotImplementedError as error:
            listener.close()
            raise OSError(f"this event loop knows no Unix sockets: {error}") from error
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        """Accept no more connections, and delete the file unless another process has put its own there.

        The file goes first: while the socket is open, no other file can have its inode.
        """
        if self._server is None:
            return
        if self._bound is not None:
            (path, ours), self._bound = self._bound, None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), ours):
                    path.unlink()
        server, self._server = self._server, None
        server.close()

    async def connect(self, make: Callable[[], ProtocolT]) -> ProtocolT:
        """Connect to the socket at the first place that has one. Raises OSError."""
        own = (path for path in self._elsewhere if _is_own(path.parent))
        there = next((path for path in (self._beside, *own) if path.is_socket()), self._beside)
        try:
            with _short_name(there) as name:
                _, protocol = await asyncio.get_running_loop().create_unix_connection(make, name)
        except NotImplementedError as error:
            raise OSError(f"this event loop knows no Unix sockets: {error}") from error
        return protocol

    def _bind(self) -> socket.socket:
        try:
            listener = self._bound_at(self._beside)
        except OSError as error:
            for path in self._elsewhere:
                with contextlib.suppress(OSError):
                    _make_own(path.parent)
                    return self._bound_at(path)
            raise OSError(
                error.errno,
                f"no socket can be made at {self._beside} ({error.strerror or error}), "
                f"nor in {' or '.join(str(path.parent) for path in self._elsewhere)}",
            ) from error
        for path in self._elsewhere:
            with contextlib.suppress(OSError):
                path.unlink()  # left by a writer that was killed when the database's folder had no sockets
        return listener

    def _bound_at(self, path: Path) -> socket.socket:
        listener = _bound(path)
        try:
            self._bound = path, path.lstat()
        except OSError:
            listener.close()
            raise
        return listener


def _bound(path: Path) -> socket.socket:
    """A socket at `path` that only this user may use. Raises OSError."""
    path.unlink(missing_ok=True)  # left by a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_name(path) as name:
            listener.bind(name)
        path.chmod(FILE_MODE)  # before it listens, so that nobody could connect before
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Yield a path of the socket that is short enough for the kernel. Raises OSError."""
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _own_folders() -> tuple[Path, ...]:
    """The user's folders for sockets that cannot be in the database's folder: of the session, and under /tmp."""
    user = os.geteuid()
    return _SESSIONS / str(user) / "klinenode", Path(tempfile.gettempdir()) / f"klinenode-{user}"


def _make_own(folder: Path) -> None:
    """Create `folder` if it is missing. Raises OSError if another user could create a socket in it."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not _is_own(folder):
        raise PermissionError(f"{folder} is not this user's alone")


def _is_own(folder: Path) -> bool:
    """Whether `folder` exists, belongs to this user and is closed to others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_closed = not stat.S_IMODE(found.st_mode) & ~FOLDER_MODE
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_closed
