"""The folder of an export: a file has its name only when it is whole and on the disk."""

import hashlib
import os
from pathlib import Path
from typing import Final

MANIFEST: Final = "manifest.json"
JOURNAL: Final = ".manifest.journal"
PART: Final = ".part"
"""How the name of an unfinished file ends; it begins with a dot."""


class Folder:
    """The folder at `path` (app.ports.export.ExportFolder)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        """Make the folder, and delete the unfinished files of a run that was killed. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        for each in self.path.rglob(f".*{PART}"):
            each.unlink()

    def begin(self, path: str) -> Path:
        """Where the file is written that `keep` will name `path`."""
        part = self._part(path)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        return part

    def keep(self, path: str) -> tuple[int, str]:
        """Make a written file durable and give it its name; returns its size in bytes and its SHA-256."""
        part, whole = self._part(path), self.path / path
        found = _digest(part)
        _sync(part)
        part.replace(whole)
        _sync(whole.parent)
        return found

    def digest(self, path: str) -> tuple[int, str] | None:
        """The size and SHA-256 of a file; None when there is none."""
        try:
            return _digest(self.path / path)
        except FileNotFoundError:
            return None

    def note(self, entry: bytes) -> None:
        """Add a line to the journal; it is on the disk on return."""
        with (self.path / JOURNAL).open("ab") as file:
            file.write(entry + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def notes(self) -> list[bytes]:
        """The whole lines of the journal; a crash may have cut the last one."""
        try:
            text = (self.path / JOURNAL).read_bytes()
        except FileNotFoundError:
            return []
        return text.split(b"\n")[:-1]

    def manifest(self) -> bytes | None:
        """The manifest; None when there is none yet."""
        try:
            return (self.path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def conclude(self, manifest: bytes) -> None:
        """Replace the manifest and delete the journal."""
        part = self.begin(MANIFEST)
        part.write_bytes(manifest)
        self.keep(MANIFEST)
        (self.path / JOURNAL).unlink(missing_ok=True)

    def _part(self, path: str) -> Path:
        whole = self.path / path
        return whole.with_name(f".{whole.name}{PART}")


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
