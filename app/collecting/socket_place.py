"""Where channels have their place: one socket, or two while a new one replaces the old."""

from random import Random

from app.collecting.feed_rules import NEVER_MS
from app.collecting.pause import Pause
from app.collecting.subscriptions import Refusal, Subscriptions
from app.domain.venue import Channel


class Socket:
    """One connection; its number is its epoch."""

    __slots__ = ("age_ms", "is_open", "is_useful", "last_frame_ms", "last_sent_ms", "number", "place", "subscriptions")

    def __init__(self, number: int, place: "Place", subscriptions: Subscriptions, now_ms: int) -> None:
        self.number = number
        self.place = place
        self.subscriptions = subscriptions
        self.is_open = False
        self.is_useful = False
        self.age_ms = self.last_frame_ms = self.last_sent_ms = now_ms
        """`age_ms` is when it was asked for, then when it opened."""


class Place:
    """Some channels of one route, and the socket that carries them (two while one replaces the other)."""

    __slots__ = ("current", "look_ms", "names", "pause", "refusals", "rotate_ms", "route", "successor", "tries")

    def __init__(self, route: str, chance: Random) -> None:
        self.route = route
        self.names: dict[str, None] = {}
        self.refusals: dict[str, Refusal] = {}
        self.tries: dict[str, list[int]] = {}
        """When each channel was subscribed again of late."""
        self.current: Socket | None = None
        self.successor: Socket | None = None
        self.pause = Pause(chance)
        self.rotate_ms = NEVER_MS
        """When a successor shall be opened."""
        self.look_ms = NEVER_MS
        """When to look again whether the successor can take over."""

    def channels(self) -> list[Channel]:
        """The channels that belong here."""
        return [Channel(self.route, name) for name in self.names]

    def sockets(self) -> list[Socket]:
        """The sockets there are, the one in use first."""
        return [socket for socket in (self.current, self.successor) if socket is not None]
