"""What is asked of an exchange, and within which limits."""

from typing import NamedTuple


class Channel(NamedTuple):
    """Where a feed is streamed: the path and query of the socket, and the name by which it is subscribed."""

    route: str
    name: str


class Request(NamedTuple):
    """A GET of the exchange's public REST interface; `weight` as the exchange counts it.

    `is_check`: it only compares what is held, and gives way to all other requests.
    """

    path: str
    params: tuple[tuple[str, str], ...] = ()
    weight: int = 1
    is_check: bool = False


class Poll(NamedTuple):
    """What is asked regularly because no channel brings it."""

    request: Request
    every_ms: int


class Limits(NamedTuple):
    """An exchange's limits, and when it is called silent."""

    channels_per_socket_max: int
    channels_per_message_max: int
    messages_per_s_max: int
    connects_per_s_max: int
    keepalive_ms: int
    """A keep-alive is sent when nothing was sent for so long."""
    silence_ms: int
    """A socket without any frame for so long is dead: at most 15 s."""
    age_ms_max: int
    """A socket of this age is replaced by a new one that overlaps it."""
    weight_per_minute: int
