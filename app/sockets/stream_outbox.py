"""The frames that wait for a slow client: bounded in bytes, with outdated states of a stream replaced by newer ones."""

from itertools import count
from typing import Final

FRAME_COST_BYTES: Final = 100  # memory of an entry in the outbox, in addition to the frame's bytes


class Outbox:
    """Frames in order of arrival; a newer state of a stream replaces the older one in the older one's place."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames: dict[str | int, bytes] = {}
        self._numbers = count()
        self.bytes = 0
        self.conflated = 0
        """How many frames were replaced by newer ones."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_over(self) -> bool:
        """Whether the frames exceed the bound in bytes."""
        return self.bytes > self._bytes_max

    def put(self, frame: bytes) -> None:
        """Add a frame that must not be lost."""
        self._add(next(self._numbers), frame)

    def put_state(self, stream: str, frame: bytes) -> None:
        """Add a frame with a stream's complete state, such as a kline in progress; it replaces an older one."""
        older = self._frames.get(stream)
        if older is None:
            self._add(stream, frame)
        else:
            self._frames[stream] = frame  # keeps the older frame's place in the queue
            self.bytes += len(frame) - len(older)
            self.conflated += 1

    def put_last(self, stream: str, frame: bytes) -> None:
        """Add a final state (a kline that closed): it replaces an older state and is never replaced itself."""
        older = self._frames.pop(stream, None)
        if older is not None:
            self.bytes -= len(older) + FRAME_COST_BYTES
            self.conflated += 1
        self.put(frame)

    def pop(self) -> bytes:
        """Remove and return the oldest frame."""
        key = next(iter(self._frames))
        frame = self._frames.pop(key)
        self.bytes -= len(frame) + FRAME_COST_BYTES
        return frame

    def clear(self) -> None:
        """Drop all frames."""
        self._frames.clear()
        self.bytes = 0

    def _add(self, key: str | int, frame: bytes) -> None:
        self._frames[key] = frame
        self.bytes += len(frame) + FRAME_COST_BYTES
