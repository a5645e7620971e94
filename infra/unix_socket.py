"""Unix sockets beside the database: bound and found whatever the database's folder is called."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

_NAME_BYTES_MAX: Final = 100  # the kernel takes 107


def _bound(path: Path) -> socket.socket:
    """A socket at `path` that only this user may use. Raises OSError."""
    path.unlink(missing_ok=True)  # of a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_name(path) as name:
            listener.bind(name)
        path.chmod(0o600)  # who may write beside the database may ask its writer
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name of the socket that is not too long for the kernel."""
    if len(os.fsencode(path)) <= _NAME_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def listening(path: Path, serve: Callable[[socket.socket], Awaitable[asyncio.Server]]) -> asyncio.Server:
    """What `serve` makes of a socket bound to `path`. Raises OSError."""
    with contextlib.ExitStack() as unless_served:
        listener = _bound(path)
        unless_served.callback(listener.close)
        try:
            server = await serve(listener)
        except NotImplementedError as error:
            raise OSError(f"this event loop knows no Unix sockets: {error}") from error
        unless_served.pop_all()
        return server
