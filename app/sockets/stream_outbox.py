"""What waits for a client that takes its frames too slowly: bounded in bytes, and thinned out where nothing is lost."""

from itertools import count
from typing import Final

FRAME_COST_BYTES: Final = 100  # what keeping a frame costs beside its bytes, which many clients share


class Outbox:
    """Frames in the order they came, but that a newer state of a stream takes the place of an older one."""

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
        """Whether more waits than may."""
        return self.bytes > self._bytes_max

    def put(self, frame: bytes) -> None:
        """Take a frame that must not be lost."""
        self._add(next(self._numbers), frame)

    def put_state(self, stream: str, frame: bytes) -> None:
        """Take a frame that says all there is to say of its stream: an older one is worth nothing any more."""
        older = self._frames.get(stream)
        if older is None:
            self._add(stream, frame)
        else:
            self._frames[stream] = frame  # in its place: it does not wait longer for being replaced
            self.bytes += len(frame) - len(older)
            self.conflated += 1

    def put_last(self, stream: str, frame: bytes) -> None:
        """Take the last state of something (a kline that closed): it replaces older ones and is never replaced."""
        older = self._frames.pop(stream, None)
        if older is not None:
            self.bytes -= len(older) + FRAME_COST_BYTES
            self.conflated += 1
        self.put(frame)

    def pop(self) -> bytes:
        """The frame that has waited longest."""
        key = next(iter(self._frames))
        frame = self._frames.pop(key)
        self.bytes -= len(frame) + FRAME_COST_BYTES
        return frame

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self.bytes = 0

    def _add(self, key: str | int, frame: bytes) -> None:
        self._frames[key] = frame
        self.bytes += len(frame) + FRAME_COST_BYTES
