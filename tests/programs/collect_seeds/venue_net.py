"""The network between a collector and the sandbox's peers: latency, order, handshakes that fail, requests that hang."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from app.domain.venue import Request
from infra.sandbox.faults import Target
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.peers import CUT, Peer
from infra.sandbox.venue import Answer
from infra.sandbox.venues import Venues
from tests.programs.collect_seeds.jetstream import Later

LATENCY_MS: Final = (2, 60)
SLOW_MS: Final = (400, 5_000)
HANDSHAKE_S: Final = 8.0
"""How long a connection may take to open (as in infra/venues/venue_io.py)."""
TIMEOUT_MS: Final = 10_000
"""How long a request may take."""


class Session(Protocol):
    """What the network reports to."""

    def opened(self, number: int) -> None:
        """The socket is open."""
        ...

    def received(self, number: int, frame: bytes) -> None:
        """A frame came."""
        ...

    def closed(self, number: int, reason: str) -> None:
        """The socket is gone."""
        ...


@dataclass(eq=False)
class Wire:
    """One socket. Frames keep their order in both directions."""

    number: int
    peer: Peer | None = None
    is_gone: bool = False
    arrives_ms: float = 0.0
    heard_ms: float = 0.0


@dataclass
class NetFaults:
    """What goes wrong on the way, beside the sandbox's own faults."""

    slow_until_ms: int = 0
    requests_lost_until_ms: int = 0


@dataclass
class VenueNet:
    """The sockets of one process, and its requests."""

    venues: Venues
    exchange: str
    session: Session
    later: Later
    now_ms: Callable[[], int]
    chance: Random
    faults: NetFaults
    levels: int | None
    """Levels of a side that a REST book has at most; None: all."""
    wires: dict[int, Wire] = field(default_factory=dict)

    def open(self, number: int, route: str) -> None:
        """Shake hands; report `opened` or `closed`."""
        wire = self.wires[number] = Wire(number)
        target = Target(path=route, venue=self.exchange)

        def arrive() -> None:
            if wire.is_gone:
                return
            faults = self.venues.faults
            if faults.take("handshake_hang", target, self.now_ms()) is not None:
                self.later(HANDSHAKE_S * SECOND_MS, lambda: self._lose(wire, "the handshake took too long"))
            elif faults.take("refuse", target, self.now_ms()) is not None:
                self.later(self._latency_ms(), lambda: self._lose(wire, "HTTP 403"))
            else:
                wire.peer = self.venues.connect(route, self.now_ms())
                self.later(self._latency_ms(), lambda: None if wire.is_gone else self.session.opened(number))

        self.later(2 * self._latency_ms(), arrive)

    def send(self, number: int, text: str) -> None:
        """Send a frame of the collector."""
        wire = self.wires.get(number)
        if wire is None:
            return
        now_ms = self.now_ms()
        wire.heard_ms = max(wire.heard_ms, now_ms + self._latency_ms())

        def arrive() -> None:
            if wire.peer is not None and not wire.is_gone and not wire.peer.is_closed:
                self._deliver(wire, wire.peer.receive(text, self.now_ms()))

        self.later(wire.heard_ms - now_ms, arrive)

    def close(self, number: int) -> None:
        """The collector closes a socket; it is reported as closed."""
        wire = self.wires.get(number)
        if wire is not None:
            self.later(2, lambda: self._lose(wire, "closed by us"))
            wire.is_gone = True

    def push(self) -> None:
        """Take the frames of all peers that are due; to be called a few times a second."""
        now_ms = self.now_ms()
        for wire in list(self.wires.values()):
            if wire.peer is None:
                continue
            self._deliver(wire, wire.peer.push(now_ms))
            if wire.peer.is_closed:
                self._after_frames(wire, lambda wire=wire: self._lose(wire, "closed by the exchange"))  # type: ignore[misc]

    def cut_all(self) -> None:
        """All sockets break at once."""
        for wire in list(self.wires.values()):
            self._lose(wire, "network unreachable")

    def die(self) -> None:
        """The process is gone: its sockets are closed by its kernel, and nothing is reported any more."""
        for wire in list(self.wires.values()):
            wire.is_gone = True
            self._end(wire)

    def fetch(self, request: Request, done: Callable[[Answer | None], None]) -> None:
        """Send a GET; `done` gets the answer, or None for none."""

        def arrive() -> None:
            now_ms = self.now_ms()
            target = Target(path=request.path, venue=self.exchange)
            slow = self.venues.faults.take("slow", target, now_ms)
            delay_ms = slow.delay_s * SECOND_MS if slow is not None else 0.0
            if now_ms < self.faults.requests_lost_until_ms or delay_ms >= TIMEOUT_MS:
                self.later(TIMEOUT_MS, lambda: done(None))
            else:
                self.later(delay_ms, lambda: answer(delay_ms))

        def answer(waited_ms: float) -> None:
            found = self.venues.answer(request.path, self._params(request), self.now_ms())
            self.later(self._latency_ms(), lambda: done(found))

        self.later(self._latency_ms(), arrive)

    def _params(self, request: Request) -> dict[str, str]:
        params = dict(request.params)
        if self.levels is not None and request.path.endswith("/depth"):
            params["limit"] = str(self.levels)
        return params

    def _deliver(self, wire: Wire, frames: list[str]) -> None:
        if frames:
            received, number = self.session.received, wire.number

            def arrive() -> None:
                for text in frames:
                    if wire.is_gone:
                        return
                    received(number, text.encode())

            self._after_frames(wire, arrive)

    def _after_frames(self, wire: Wire, call: Callable[[], None]) -> None:
        now_ms = self.now_ms()
        wire.arrives_ms = max(wire.arrives_ms, now_ms + self._latency_ms())
        self.later(wire.arrives_ms - now_ms, call)

    def _lose(self, wire: Wire, reason: str) -> None:
        if self.wires.get(wire.number) is wire:
            wire.is_gone = True
            self._end(wire)
            self.session.closed(wire.number, reason)

    def _end(self, wire: Wire) -> None:
        del self.wires[wire.number]
        if wire.peer is not None:
            wire.peer.close(CUT, "disconnected")
            self.venues.peers.pop(wire.peer, None)

    def _latency_ms(self) -> float:
        low, high = SLOW_MS if self.now_ms() < self.faults.slow_until_ms else LATENCY_MS
        return self.chance.uniform(low, high)
