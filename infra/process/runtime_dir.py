"""RUNTIME_DIR: where the files lie, and how they are called, that the processes of one database share."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Final

from infra.process.private_file import FOLDER_MODE

NAME_BYTES_MAX: Final = 255  # of a file's name, on every file system of Linux
_DIGITS: Final = 16  # of the hash that stands for a name that is too long, or for the path of a database


def shared_by(database: Path, runtime_dir: str) -> Path:
    """What stands for the database in the names of shared files (`beside` it): itself, or a name in RUNTIME_DIR.

    There the name has a hash of the whole path: databases of one name in different folders share nothing. The writer
    lease is not among these files: its lock lies beside the database, or two settings would make two writers.
    """
    if not runtime_dir:
        return database
    digest = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:_DIGITS]
    return Path(runtime_dir) / f"{database.name}-{digest}"


def make_runtime_dir(runtime_dir: str) -> None:
    """Make RUNTIME_DIR, this user's alone, if it is set and not there. Raises OSError: nothing can be made in it."""
    if runtime_dir:
        Path(runtime_dir).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if not os.access(runtime_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), runtime_dir)


def beside(database: Path, ending: str, *, bytes_max: int = NAME_BYTES_MAX) -> Path:
    """`<database>.<ending>`; where that is longer than a name may be, `.klinenode-<hash of its name>.<ending>`.

    A database may have a name of up to 247 bytes, which leaves room for SQLite's own endings and not for all of ours.
    """
    name = f"{database.name}.{ending}"
    if len(os.fsencode(name)) > bytes_max:
        digest = hashlib.sha256(os.fsencode(database.name)).hexdigest()[:_DIGITS]
        name = f".klinenode-{digest}.{ending}"
    return database.with_name(name)
