"""The spill in segment files: appended with fsync, read from the oldest, deleted when all of it was released.

How far reading has come is not written down: after a restart the oldest segment is read from its beginning again, and
what was stored of it meets the same ids, in the stream's duplicate window or in the reader's rule.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from app.ports.publishing import Message
from app.ports.spilling import SpillRefused
from infra.spill.frames import MAGIC, frame_bytes, packed, unpacked

SEGMENT_BYTES: Final = 8 * 1024 * 1024
"""A segment of this size is followed by a new one; so much at most is published twice after a restart."""
READ_BYTES: Final = 512 * 1024
"""Read at once, and therefore in memory while it is published; a larger message is read alone."""
SUFFIX: Final = ".spill"
_DIGITS: Final = 12


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int


class SegmentSpill:
    """A `Spill` in a folder that belongs to this process alone."""

    def __init__(self, folder: Path, bytes_max: int, report_damage: Callable[[str], None]) -> None:
        """Make or open it. `report_damage` gets a sentence when bytes in it cannot be read. Raises OSError."""
        self._folder = folder
        self._bytes_max = bytes_max
        self._report_damage = report_damage
        self._lock = Lock()  # for files and `_segments`, which threads change
        self._segments: tuple[_Segment, ...] = ()
        self._writing: int | None = None  # descriptor of the newest segment
        self._reading = (0, len(MAGIC))  # number of the segment, and where in it
        self._open()

    @property
    def bytes_held(self) -> int:
        """The bytes of all segments."""
        return sum(each.size for each in self._segments)

    @property
    def is_empty(self) -> bool:
        """Whether every message was released."""
        return not self._segments

    @property
    def is_read(self) -> bool:
        """Whether `read` has returned every message."""
        segments = self._segments
        return not segments or self._reading >= (segments[-1].number, segments[-1].size)

    async def append(self, messages: Sequence[Message]) -> None:
        """Write `messages` in one group and fsync it."""
        data = packed(messages)
        if self.bytes_held + len(data) + len(MAGIC) > self._bytes_max:
            raise SpillRefused(
                f"the spill in {self._folder} has reached {self._bytes_max} bytes: bring the stream back, or raise "
                "SPILL_BYTES_MAX; what comes until then is fetched again from the exchange as a gap"
            )
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            raise SpillRefused(
                f"the spill in {self._folder} cannot be written ({error.strerror}): make room or repair the disk"
            ) from error

    async def read(self) -> Sequence[Message]:
        """The next messages, of READ_BYTES at most or one that is larger."""
        while not self.is_read:
            segment = next(each for each in self._segments if each.number >= self._reading[0])
            at = self._reading[1] if segment.number == self._reading[0] else len(MAGIC)
            if at >= segment.size:
                if segment is self._segments[-1]:  # begun at this moment: its first group is being written
                    self._reading = (segment.number, at)
                    break
                self._reading = (segment.number + 1, len(MAGIC))
                continue
            messages, taken = await asyncio.to_thread(_read, segment.path, at, segment.size)
            self._reading = (segment.number, at + taken if taken else segment.size)
            if taken:
                return messages
            if not await asyncio.to_thread(_is_torn, segment.path, at, segment.size):
                self._report_damage(f"{segment.path}: {segment.size - at} bytes from byte {at} on are damaged")
        return ()

    async def release(self) -> None:
        """Delete the segments that were read to their end."""
        if self._segments and self._reading >= (self._segments[0].number, self._segments[0].size):
            await asyncio.to_thread(self._delete)

    def close(self) -> None:
        """Close the files; the messages stay."""
        with self._lock:
            self._close()

    # --- files ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with path.open("rb") as file:
                magic = file.read(len(MAGIC))
            if magic == MAGIC and path.stem.isdecimal():
                found.append(_Segment(int(path.stem), path, path.stat().st_size))
            elif not MAGIC.startswith(magic):  # otherwise the process was killed while it began a segment
                self._report_damage(f"{path} is no segment of a spill: move it away")
        self._segments = tuple(found)
        if found:
            self._reading = (found[0].number, len(MAGIC))

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._writing is None or self._segments[-1].size >= SEGMENT_BYTES:
                self._begin()
            assert self._writing is not None
            segment = self._segments[-1]
            try:
                _write_all(self._writing, data)
                os.fdatasync(self._writing)
            except OSError:
                os.ftruncate(self._writing, segment.size)  # the next group begins where this one would have
                raise
            segment.size += len(data)

    def _begin(self) -> None:
        number = max(self._segments[-1].number if self._segments else 0, self._reading[0]) + 1
        path = self._folder / f"{number:0{_DIGITS}d}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write_all(descriptor, MAGIC)
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._close()
        self._writing = descriptor
        self._segments = (*self._segments, _Segment(number, path, len(MAGIC)))

    def _delete(self) -> None:
        with self._lock:
            while self._segments and self._reading >= (self._segments[0].number, self._segments[0].size):
                first, *rest = self._segments
                if not rest:
                    self._close()
                first.path.unlink(missing_ok=True)
                self._segments = tuple(rest)

    def _close(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, at: int, end: int) -> tuple[list[Message], int]:
    """The next whole messages between two bytes of a segment, and how many bytes they take."""
    with path.open("rb") as file:
        file.seek(at)
        data = file.read(min(READ_BYTES, end - at))
        messages, taken = unpacked(data)
        if not taken and len(data) < frame_bytes(data) <= end - at:
            messages, taken = unpacked(data + file.read(frame_bytes(data) - len(data)))
        return messages, taken


def _is_torn(path: Path, at: int, end: int) -> bool:
    """Whether the frame at `at` was the last that a killed process wrote: no other follows it."""
    with path.open("rb") as file:
        file.seek(at)
        size = frame_bytes(file.read(min(READ_BYTES, end - at)))
    return size == 0 or at + size >= end
