"""Messages on disk, in order, while the stream is away."""

from collections.abc import Sequence
from typing import Protocol

from app.ports.publishing import Message


class SpillRefused(Exception):
    """The messages were not written (no room, the disk fails); the message says which and what to do."""


class Spill(Protocol):
    """A queue of messages that survives the process."""

    @property
    def bytes_held(self) -> int:
        """The bytes of messages that were appended and not yet released."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether every message was released."""
        ...

    @property
    def is_read(self) -> bool:
        """Whether `read` has returned every message."""
        ...

    async def append(self, messages: Sequence[Message]) -> None:
        """Write `messages` behind all others; return when they survive a power cut. SpillRefused: none was written."""
        ...

    async def read(self) -> Sequence[Message]:
        """The next messages, oldest first, up to a bounded size; empty if there are none. One reader at a time."""
        ...

    async def release(self) -> None:
        """All messages that were read are stored elsewhere and are not needed any more."""
        ...
