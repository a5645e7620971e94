"""Probes of folders and files: where they lie, who may write them, and whether the kernel locks there."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

from app.ports.probes import FileFacts, FolderFacts

MOUNTS: Final = Path("/proc/self/mountinfo")


def folder_facts(path: Path, mounts: Path = MOUNTS) -> FolderFacts:
    """The facts of a folder, or of the nearest one above it that exists. Nothing is written."""
    there = path
    while not there.is_dir() and there != there.parent:
        there = there.parent
    is_blocked = path.exists() and not path.is_dir()
    return FolderFacts(
        path,
        path.is_dir(),
        os.access(there, os.W_OK | os.X_OK) and not is_blocked,
        _file_system(there, mounts),
        _lock_failed(there),
        shutil.disk_usage(there).free,
    )


def file_facts(path: Path) -> FileFacts | None:
    """Whose a file is and who may open it; None if there is none that this user may see."""
    try:
        found = path.stat()
    except OSError:
        return None
    return FileFacts(path, found.st_uid, found.st_mode, os.access(path, os.R_OK | os.W_OK))


def _lock_failed(folder: Path) -> str | None:
    """Why the kernel refuses a shared lock on the folder itself, which nobody else locks; None if it grants one."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None  # it may not be opened: the check of permissions says so
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return None  # somebody has a lock, so there are locks
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(fd)
    return None


def _file_system(folder: Path, mounts: Path) -> str:
    """The type of the file system that `folder` is on, by the longest mount point above it; empty if not known."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    resolved = folder.resolve()
    best, kind = -1, ""
    for line in lines:
        fields, _, after = line.partition(" - ")
        words = fields.split()
        point = Path(words[4].encode().decode("unicode_escape"))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind
