"""Unix sockets of one database: made and found whatever its path is like and wherever it lies.

A socket lies beside the database, so that also processes in other containers find it that share the folder. The kernel
takes 107 bytes of a socket's path; a longer one is named through an open descriptor of its folder. Where the folder's
file system has no sockets, or /proc is missing, it lies in this user's own folder, by a hash of the database's path.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from infra.process.private_file import FILE_MODE, FOLDER_MODE
from infra.process.runtime_dir import beside

_PATH_BYTES_MAX: Final = 100  # the kernel takes 107
_NAME_BYTES_MAX: Final = 80  # behind "/proc/self/fd/<number>/"
_SESSIONS: Final = Path("/run/user")  # where a login session has a folder of its user's own
_DIGITS: Final = 32  # of the hash that names a database in this user's folder


class UnixSocket:
    """The place of one socket of a database: `ending` says which."""

    def __init__(self, database: Path, ending: str) -> None:
        digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:_DIGITS]
        self._beside = beside(database, ending, bytes_max=_NAME_BYTES_MAX)
        self._elsewhere = tuple(folder / f"{digest}.{ending}" for folder in _own_folders())
        self._bound: Path | None = None

    async def listen(self, serve: Callable[[socket.socket], Awaitable[asyncio.Server]]) -> asyncio.Server:
        """What `serve` makes of a socket bound in the first place that can have one. Raises OSError."""
        with contextlib.ExitStack() as unless_served:
            listener = self._bind()
            unless_served.callback(listener.close)
            try:
                server = await serve(listener)
            except NotImplementedError as error:
                raise OSError(f"this event loop knows no Unix sockets: {error}") from error
            unless_served.pop_all()
            return server

    def remove(self) -> None:
        """Remove the socket that was bound."""
        if self._bound is not None:
            self._bound.unlink(missing_ok=True)
            self._bound = None

    @contextlib.contextmanager
    def found(self) -> Iterator[str]:
        """A name to connect to, of the first place that has a socket. Raises OSError."""
        own = (path for path in self._elsewhere if _is_own(path.parent))
        there = next((path for path in (self._beside, *own) if path.is_socket()), self._beside)
        with _short_name(there) as name:
            yield name

    def _bind(self) -> socket.socket:
        try:
            listener = _bound(self._beside)
        except OSError as error:
            for path in self._elsewhere:
                with contextlib.suppress(OSError):
                    _make_own(path.parent)
                    listener, self._bound = _bound(path), path
                    return listener
            raise OSError(
                error.errno,
                f"no socket can be made at {self._beside} ({error.strerror or error}), "
                f"nor in {' or '.join(str(path.parent) for path in self._elsewhere)}",
            ) from error
        self._bound = self._beside
        for path in self._elsewhere:
            with contextlib.suppress(OSError):
                path.unlink()  # of a writer that was killed when the folder had no sockets
        return listener


def _bound(path: Path) -> socket.socket:
    """A socket at `path` that only this user may use. Raises OSError."""
    path.unlink(missing_ok=True)  # of a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_name(path) as name:
            listener.bind(name)
        path.chmod(FILE_MODE)  # before it listens: until then nobody can connect
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name of the socket that is not too long for the kernel. Raises OSError."""
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _own_folders() -> tuple[Path, ...]:
    """Folders of this user for sockets that cannot lie beside the database: the session's, else one under /tmp."""
    user = os.geteuid()
    return _SESSIONS / str(user) / "klinenode", Path(tempfile.gettempdir()) / f"klinenode-{user}"


def _make_own(folder: Path) -> None:
    """Make `folder` if it is not there. Raises OSError when somebody else could put a socket into it."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not _is_own(folder):
        raise PermissionError(f"{folder} is not this user's alone")


def _is_own(folder: Path) -> bool:
    """Whether `folder` is there and this user's alone."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_closed = not stat.S_IMODE(found.st_mode) & ~FOLDER_MODE
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_closed
