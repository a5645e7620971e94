"""A folder for a file that is built, sent and deleted; one process of a node has it at a time."""

import shutil
from pathlib import Path
from typing import BinaryIO, Final

from infra.exporting.folder import Folder
from infra.process.folder_lock import FolderLock

FILES: Final = "files"


class ScratchFolder:
    """The folder at `path`, from the making until `release` (app.exporting.download.Scratch).

    Raises FolderTaken and OSError.
    """

    def __init__(self, path: Path) -> None:
        self._lock = FolderLock(path)
        self._files = path / FILES
        try:
            shutil.rmtree(self._files, ignore_errors=True)  # of a process that was killed
            self.folder = Folder(self._files)
            self.folder.clear()
        except BaseException:
            self._lock.release()
            raise

    def free_bytes(self) -> int:
        """The room on the disk."""
        return shutil.disk_usage(self._files).free

    def open(self, path: str) -> BinaryIO:
        """Open a file that was kept. Raises OSError."""
        return (self._files / path).open("rb")

    def release(self) -> None:
        """Delete everything, and let others have the folder."""
        shutil.rmtree(self._files, ignore_errors=True)
        self._lock.release()
