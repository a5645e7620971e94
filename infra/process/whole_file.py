"""Files that are replaced as a whole: a reader, and the next start, find the old content or the new one."""

import os
from pathlib import Path
from typing import Final

from infra.process.private_file import FOLDER_MODE, open_private

BYTES_MAX: Final = 16 * 1024 * 1024
"""A larger file was not written by us: it is not read into memory."""


def replace(path: Path, content: bytes, *, is_durable: bool) -> None:
    """Replace the file at `path`; `is_durable`: return when the content is on the disk. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    with open(open_private(new), "wb") as file:  # noqa: PTH123  a descriptor
        file.truncate()
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if is_durable:
        _sync_folder(path.parent)


class WholeFile:
    """A KeptFile at `path`; its folder is created with the first content."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def read(self) -> bytes | None:
        """The content; None: there is none yet. Raises OSError, also for a file that is larger than BYTES_MAX."""
        try:
            with self._path.open("rb") as file:
                content = file.read(BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        if len(content) > BYTES_MAX:
            raise OSError(f"{self._path} is larger than {BYTES_MAX} bytes")
        return content

    def write(self, content: bytes) -> None:
        """Replace the content, on the disk. Raises OSError."""
        self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        replace(self._path, content, is_durable=True)


def _sync_folder(folder: Path) -> None:
    """Have the folder's entry for the renamed file on the disk: without it, a power cut brings the old one back."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
