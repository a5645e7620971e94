"""The room on disk: whether wished history fits, and whether enough disk is left to fetch any of it."""

from collections.abc import Callable
from typing import Final

from app.filling.amounts import of_bytes

ROW_DISK_BYTES: Final = 115
"""Bytes on disk of a stored 1m kline, key included.

Measured: 99 for a year of recorded archive files of three symbols committed month by month, 97 when 200 symbols arrive
minute by minute, 112 for texts as long as BTCUSDT's.
"""
SEALED_ROW_DISK_BYTES: Final = 47
"""The same where old klines are sealed, with the recent ones, which are not.

Measured: 47 for 124 days of the sandbox's seven default intervals, of which a tenth was not sealed yet; 37 for recorded
minutes that were all sealed.
"""
BEGUN_SLACK: Final = 10
"""A backfill that has begun continues while it is short of less than a tenth (1/BEGUN_SLACK) of what it still needs.

The need is an estimate, and the write-ahead log on the same disk grows and shrinks.
"""
_SETTINGS: Final = "lower BACKFILL_DAYS, name fewer SYMBOLS with AUTO_SYNC_SYMBOLS=false, lower DISK_FREE_BYTES_MIN"


def row_disk_bytes(seal_after_days: float) -> int:
    """Bytes on disk of a stored kline, by the setting SEAL_AFTER_DAYS."""
    return SEALED_ROW_DISK_BYTES if seal_after_days else ROW_DISK_BYTES


def shortage(needed_bytes: int, free_bytes: int | None, free_bytes_min: int) -> str | None:
    """Why `needed_bytes` do not fit on the disk and what to do about it; None when they fit.

    `free_bytes` of None: the disk is a database server's, and cannot be seen from here; so everything fits.
    """
    if free_bytes is None:
        return None
    room_bytes = max(0, free_bytes - free_bytes_min)
    if needed_bytes <= room_bytes:
        return None
    return (
        f"what is wished and not held needs about {of_bytes(needed_bytes)} of disk, and there is room for "
        f"{of_bytes(room_bytes)} ({of_bytes(free_bytes)} free, DISK_FREE_BYTES_MIN={free_bytes_min} kept free); "
        f"the newest klines are held all the same. For history {_SETTINGS}, or make room"
    )


class Room:
    """Says why no history may be fetched at the moment. The newest klines are fetched in any case."""

    def __init__(self, free_bytes: Callable[[], int | None], free_bytes_min: int, row_bytes: int) -> None:
        """`row_bytes`: what a stored kline takes, see `row_disk_bytes`."""
        self._row_bytes = row_bytes
        self._free_bytes = free_bytes
        self._free_bytes_min = free_bytes_min
        self._unfit: str | None = None
        self._has_begun = False

    def plan(self, missing_klines: int) -> None:
        """Decide whether the missing klines that a plan has counted fit on the disk."""
        needed_bytes = missing_klines * self._row_bytes
        if self._has_begun:
            needed_bytes -= needed_bytes // BEGUN_SLACK
        self._unfit = shortage(needed_bytes, self._free_bytes(), self._free_bytes_min)
        self._has_begun = self._unfit is None

    def refusal(self) -> str | None:
        """Why no history may be fetched, by the last plan and by the disk's free bytes now; None when it may."""
        free_bytes = self._free_bytes()
        if free_bytes is not None and free_bytes < self._free_bytes_min:
            return (
                f"only {of_bytes(free_bytes)} of disk are free, less than DISK_FREE_BYTES_MIN={self._free_bytes_min}; "
                f"free some, or lower BACKFILL_DAYS"
            )
        return self._unfit
