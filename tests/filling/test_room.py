"""History starts only when all of it fits on disk; it stops only if far too little fits or the disk is nearly full."""

import pytest

from app.filling.amounts import of_bytes, of_seconds
from app.filling.room import ROW_DISK_BYTES, SEALED_ROW_DISK_BYTES, Room, row_disk_bytes, shortage

MIN = 10_000


class Disk:
    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes

    def read(self) -> int:
        return self.free_bytes


def test_what_does_not_fit_is_not_begun_until_there_is_room_or_less_is_wished() -> None:
    disk = Disk(MIN + 1000 * ROW_DISK_BYTES)
    room = Room(disk.read, MIN, ROW_DISK_BYTES)
    assert room.refusal() is None, "before the first plan nothing speaks against it"
    room.plan(1001)
    refusal = room.refusal()
    assert refusal is not None
    assert "needs about 115 kB of disk, and there is room for 115 kB (125 kB free" in refusal
    room.plan(1000)
    assert room.refusal() is None
    room = Room(disk.read, MIN, ROW_DISK_BYTES)
    room.plan(1001)
    disk.free_bytes += ROW_DISK_BYTES
    assert room.refusal() is not None, "the plan decides, not each look"
    room.plan(1001)
    assert room.refusal() is None


def test_what_has_begun_goes_on_although_the_estimate_was_a_little_low() -> None:
    disk = Disk(MIN + 1000 * ROW_DISK_BYTES)
    room = Room(disk.read, MIN, ROW_DISK_BYTES)
    room.plan(1000)
    disk.free_bytes -= 500 * ROW_DISK_BYTES
    room.plan(550)
    assert room.refusal() is None, "a tenth too little"
    room.plan(600)
    assert room.refusal() is not None
    room.plan(550)
    assert room.refusal() is not None, "and now it has to fit again"
    room.plan(500)
    assert room.refusal() is None


def test_a_disk_that_is_nearly_full_stops_everything_at_once() -> None:
    disk = Disk(MIN + 1000 * ROW_DISK_BYTES)
    room = Room(disk.read, MIN, ROW_DISK_BYTES)
    room.plan(10)
    disk.free_bytes = MIN - 1
    refusal = room.refusal()
    assert refusal is not None
    assert refusal.startswith("only 10 kB of disk are free, less than DISK_FREE_BYTES_MIN=10000")
    disk.free_bytes = MIN
    assert room.refusal() is None


def test_nothing_to_fetch_fits_on_a_full_disk() -> None:
    assert shortage(0, 0, MIN) is None
    assert shortage(1, 0, MIN) is not None


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (2_147_483_648, "2.1 GB"),
        (51_234_567_890, "51 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_bytes_are_said_in_two_digits(count: int, text: str) -> None:
    assert of_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "2 min"),
        (3_600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 day"),
        (200_000, "2 days 8 h"),
    ],
)
def test_time_is_said_in_two_units_at_the_most(count: int, text: str) -> None:
    assert of_seconds(count) == text


def test_a_sealed_row_takes_less() -> None:
    assert row_disk_bytes(0) == ROW_DISK_BYTES
    assert row_disk_bytes(0.5) == SEALED_ROW_DISK_BYTES < ROW_DISK_BYTES / 2
