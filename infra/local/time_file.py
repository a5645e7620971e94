"""The clock correction of this machine, beside the rate state whose times mean nothing without it.

The database has it too, but a process may have to start while its server is away.
"""

import contextlib
from pathlib import Path
from typing import Final

from infra.process.runtime_dir import beside
from infra.process.whole_file import replace

BYTES_MAX: Final = 1_024


class TimeFile:
    """The file of a database's processes on this machine."""

    def __init__(self, database: Path) -> None:
        self._path = beside(database, "time")
        self._written: bytes | None = None

    def read(self) -> bytes | None:
        """What was written last, by any process; None where that cannot be read."""
        try:
            return self._path.read_bytes()[:BYTES_MAX]
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Keep `content`, if the folder can be written: the rate state, in the same one, reports if it cannot."""
        if content != self._written:
            with contextlib.suppress(OSError):
                replace(self._path, content, is_durable=False)  # of what a power cut takes, the boot was different too
                self._written = content
