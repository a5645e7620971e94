"""How the files are called that a node keeps beside its database."""

import hashlib
import os
from pathlib import Path
from typing import Final

NAME_BYTES_MAX: Final = 255  # of a file's name, on every file system of Linux
_DIGITS: Final = 16  # of the hash that stands for a name that is too long


def beside(database: Path, ending: str, *, bytes_max: int = NAME_BYTES_MAX) -> Path:
    """`<database>.<ending>`; where that is longer than a name may be, `.klinenode-<hash of its name>.<ending>`.

    A database may have a name of up to 247 bytes, which leaves room for SQLite's own endings and not for all of ours.
    """
    name = f"{database.name}.{ending}"
    if len(os.fsencode(name)) > bytes_max:
        digest = hashlib.sha256(os.fsencode(database.name)).hexdigest()[:_DIGITS]
        name = f".klinenode-{digest}.{ending}"
    return database.with_name(name)
