"""The network between the session and the model exchange: sockets with delays, and what goes wrong on them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec

LATENCY_MS: Final = (5, 80)
Later = Callable[[int, Callable[[], None]], None]
"""Call something after so many ms."""


@dataclass
class Connection:
    """One socket as the exchange sees it. Frames keep their order."""

    number: int
    route: str
    is_open: bool = False
    is_silent: bool = False
    names: set[str] = field(default_factory=set)
    muted: set[str] = field(default_factory=set)
    arrives_ms: int = 0
    heard_ms: int = 0
    """When the newest frame, and the newest message of the session, arrives."""


@dataclass
class Faults:
    """What goes wrong now; counters are used up by what they hit."""

    drop: int = 0
    repeat: int = 0
    slow_until_ms: int = 0
    no_connects_until_ms: int = 0
    refused: set[str] = field(default_factory=set)
    acknowledgements_lost: int = 0
    snapshots_missing: int = 0
    rest_fails_until_ms: int = 0
    rest_limited_until_ms: int = 0


class Network:
    """Sockets of one process; a new process gets a new network."""

    def __init__(self, chance: Random, later: Later, deliver: Callable[[int, bytes], None], faults: Faults) -> None:
        self._chance = chance
        self._later = later
        self._deliver = deliver
        self.faults = faults
        self.connections: dict[int, Connection] = {}
        self.is_gone = False

    def latency_ms(self, now_ms: int) -> int:
        """How long one way takes now."""
        low, high = LATENCY_MS
        slow = self._chance.randint(500, 6_000) if now_ms < self.faults.slow_until_ms else 0
        return self._chance.randint(low, high) + slow

    def push(self, name: str, frame: bytes, now_ms: int) -> None:
        """The exchange sends a frame of a channel to all that subscribed."""
        for connection in list(self.connections.values()):
            if name not in connection.names or name in connection.muted:
                continue
            if self.faults.drop and self._chance.random() < 0.5:
                self.faults.drop -= 1
                continue
            times = 1
            if self.faults.repeat and self._chance.random() < 0.5:
                self.faults.repeat -= 1
                times = 2
            for _ in range(times):
                self.send(connection, frame, now_ms)

    def send(self, connection: Connection, frame: bytes, now_ms: int) -> None:
        """Send a frame on one socket, behind those before it."""
        connection.arrives_ms = max(connection.arrives_ms, now_ms + self.latency_ms(now_ms))
        self._later(connection.arrives_ms - now_ms, lambda: self._arrive(connection, frame))

    def _arrive(self, connection: Connection, frame: bytes) -> None:
        if self.is_gone or connection.is_silent or self.connections.get(connection.number) is not connection:
            return
        self._deliver(connection.number, frame)


def read_message(text: str) -> dict[str, Any]:
    """A message of the session."""
    return msgspec.json.decode(text, type=dict)
