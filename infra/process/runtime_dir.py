"""The paths of the files that the processes of a database share, in RUNTIME_DIR."""

import errno
import hashlib
import os
import re
from pathlib import Path
from typing import Final

from infra.process.private_file import FOLDER_MODE

NAME_BYTES_MAX: Final = 255  # of a file name, on every file system of Linux
SERVER_FOLDER: Final = "data"  # where processes share files by default if a server keeps their database
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_NAME_CHARACTERS_MAX: Final = 40  # of a database's name; the path of a socket has at most 107 bytes
_DIGITS: Final = 16  # hex digits of the hash of a name that is too long, or of a database's path


def shared_by(database: Path, runtime_dir: str) -> Path:
    """The path from which `beside` makes the names of shared files: the database, or a path in RUNTIME_DIR.

    The latter contains a hash of the database's path, so that databases with the same name in different folders share
    nothing. The lock of the writer lease is not in RUNTIME_DIR but beside the database: otherwise two nodes with
    different settings would both write.
    """
    if not runtime_dir:
        return database
    digest = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:_DIGITS]
    return Path(runtime_dir) / f"{database.name}-{digest}"


def shared_by_server(database: str, server: str, runtime_dir: str) -> Path:
    """The same path for a database that a server keeps: in RUNTIME_DIR or SERVER_FOLDER, named after the database.

    It contains a hash of `server`, which may be written in one way only: `db` and `db.example` share nothing.
    """
    digest = hashlib.sha256(f"{server}/{database}".encode()).hexdigest()[:_DIGITS]
    name = _UNSAFE.sub("_", database)[:_NAME_CHARACTERS_MAX]
    return Path(runtime_dir or SERVER_FOLDER) / f"{name}-{digest}"


def make_runtime_dir(runtime_dir: str) -> None:
    """Create RUNTIME_DIR, closed to other users, if it is set and missing. Raises OSError if it is not writable."""
    if runtime_dir:
        Path(runtime_dir).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if not os.access(runtime_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), runtime_dir)


def beside(database: Path, ending: str, *, bytes_max: int = NAME_BYTES_MAX) -> Path:
    """`<database>.<ending>`; if that name is too long, `.klinenode-<hash of the database's name>.<ending>`.

    The name of a database may have up to 247 bytes, which leaves room for SQLite's suffixes but not for longer ones.
    """
    name = f"{database.name}.{ending}"
    if len(os.fsencode(name)) > bytes_max:
        digest = hashlib.sha256(os.fsencode(database.name)).hexdigest()[:_DIGITS]
        name = f".klinenode-{digest}.{ending}"
    return database.with_name(name)
