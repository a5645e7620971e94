"""Where records go: a stream that stores messages and confirms each."""

from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """One message. Whoever publishes it again uses the same `message_id`: the stream stores it once in its window."""

    subject: str
    body: bytes
    message_id: str
    headers: tuple[tuple[str, str], ...] = ()


class StreamPlan(NamedTuple):
    """A stream as it must be; what is not named here stays as the operator has set it.

    `subjects` may have wildcards. The stream discards its oldest messages at `bytes_max` and those older than `age_s`;
    with `is_refusing` it refuses new ones at `bytes_max`. Ids are remembered for `window_s` ≤ `age_s`.
    """

    name: str
    subjects: tuple[str, ...]
    bytes_max: int
    age_s: int
    window_s: int
    is_refusing: bool = False


class PublishError(Exception):
    """A message was not confirmed."""


class Unconfirmed(PublishError):
    """Whether it was stored is unknown (time-out, lost connection): publish it again with the same id."""


class NotAccepted(PublishError):
    """The stream refuses it, and goes on refusing until somebody acts (full, no permission, no stream)."""


class TooLarge(PublishError):
    """It is larger than the server takes; publishing it again is of no use."""


class Publisher(Protocol):
    """A connection to the stream."""

    async def publish(self, message: Message) -> None:
        """Return when the message is stored. PublishError: it is not, or that is unknown."""
        ...

    def fault(self) -> str | None:
        """What is wrong with the connection or the stream, and what to do about it; None: nothing."""
        ...
