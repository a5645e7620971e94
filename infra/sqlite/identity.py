"""Which file a path names at the moment, whatever its content."""

import os
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """What tells a file from every other one on this machine."""

    device: int
    inode: int


def identity(path: Path, otherwise: Identity | None) -> Identity | None:
    """The identity of the file at `path`, None when there is none, `otherwise` when the system does not say."""
    try:
        found = os.stat(path)  # noqa: PTH116  half the time of Path.stat, before every transaction
    except FileNotFoundError:
        return None
    except OSError:
        return otherwise  # a folder without permission, a share that does not answer: nothing is known
    return Identity(found.st_dev, found.st_ino)
