"""Counts of admitted requests that all processes of a node share, in a mapped file: without a lock or a system call.

Each process writes only the words of its own place, and a count is the sum over all places. So no process can hold up
another one, and what a dead process has counted stands until its minute is over. Processes that admit requests at the
same instant may each admit the last one: a count exceeds its quota by less than the number of processes.
"""

import fcntl
import mmap
import os
from array import array
from pathlib import Path
from typing import Final

from app.events import Observe, QuotasNotShared
from app.ports.coordination import QUOTA_ROWS
from infra.process.place import PROCESSES_MAX, take_place
from infra.process.private_file import open_private
from infra.process.runtime_dir import beside

_WORD_BYTES: Final = 8
_HEAD_WORDS: Final = 8  # the first one is the number of places that were ever taken
FILE_BYTES: Final = _WORD_BYTES * (_HEAD_WORDS + QUOTA_ROWS * PROCESSES_MAX)
COUNT_BITS: Final = 24
"""The lower bits of a word are the count, the upper ones its period: both change in one write."""
_COUNT: Final = (1 << COUNT_BITS) - 1


class LocalQuotaCounter:
    """The QuotaCounter of the processes of a database, in a file beside it or in RUNTIME_DIR.

    When the file cannot be used, the process counts on its own, and reports it.
    """

    def __init__(self, database: Path, observe: Observe) -> None:
        self._path = beside(database, "quotas")
        self._observe = observe
        self._alone = array("Q", bytes(_WORD_BYTES * (_HEAD_WORDS + QUOTA_ROWS * PROCESSES_MAX)))
        self._alone[0] = 1
        self._words: array[int] | memoryview[int] = self._alone
        self._place = 0
        self._fd: int | None = None

    def open(self) -> None:
        """Count together with the other processes from now on."""
        try:
            self._open()
        except OSError as error:
            self.close()
            self._observe(QuotasNotShared(str(self._path), str(error)))

    def used(self, row: int, period: int) -> int:
        """How many requests all processes have counted in `row` in a period."""
        words = self._words
        begin, places = _HEAD_WORDS + row * PROCESSES_MAX, words[0]
        if places == 1:  # most nodes are one process
            word = words[begin]
            return word & _COUNT if word >> COUNT_BITS == period else 0
        found = 0
        for word in words[begin : begin + places]:
            if word >> COUNT_BITS == period:
                found += word & _COUNT
        return found

    def add(self, row: int, period: int) -> None:
        """Count one request."""
        words = self._words
        at = _HEAD_WORDS + row * PROCESSES_MAX + self._place
        before = words[at]
        words[at] = before + 1 if before >> COUNT_BITS == period else (period << COUNT_BITS) + 1

    def close(self) -> None:
        """Close the file and go on alone."""
        self._words, self._place = self._alone, 0
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = open_private(self._path)
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # held for microseconds, at the start of a process only
        try:
            os.posix_fallocate(self._fd, 0, FILE_BYTES)  # a page without room on the disk would be SIGBUS, not an error
            place = take_place(self._fd)
            words = memoryview(mmap.mmap(self._fd, FILE_BYTES)).cast("Q")
            words[0] = min(max(words[0], place + 1), PROCESSES_MAX)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._words, self._place = words, place
