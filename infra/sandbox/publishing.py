"""How an event reaches those who subscribed to its stream, and what the faults of frames make of it on the way."""

from dataclasses import dataclass, field
from typing import Protocol

from infra.sandbox.faults import FRAME_KINDS, FaultBoard, Target


class Subscriber(Protocol):
    """A socket as its feeds see it."""

    def deliver(self, stream: str, event: str) -> None:
        """Take an event of `stream` (JSON text) without waiting."""
        ...


@dataclass(slots=True, eq=False)
class Outlet:
    """One stream by name, who listens to it, and an event that a fault holds back."""

    name: str
    subscribers: dict[Subscriber, None] = field(default_factory=dict)
    held: str | None = None


class Publisher:
    """Fans events out."""

    def __init__(self, faults: FaultBoard) -> None:
        self._faults = faults
        self.frames_sent = 0

    @property
    def is_faulty(self) -> bool:
        """Whether a fault may befall frames: asked once a tick, not once a frame."""
        return self._faults.any_of(FRAME_KINDS)

    def send(self, outlet: Outlet, target: Target, event: str, now_ms: int, *, faulty: bool) -> None:
        """Give `event` to all subscribers, unless a fault keeps it, doubles it or spoils it."""
        events = self._spoil(outlet, target, event, now_ms) if faulty or outlet.held else (event,)
        for each in events:
            self.frames_sent += len(outlet.subscribers)
            for subscriber in tuple(outlet.subscribers):
                subscriber.deliver(outlet.name, each)

    def _spoil(self, outlet: Outlet, target: Target, event: str, now_ms: int) -> tuple[str, ...]:
        """What the faults make of one event."""
        if self._faults.take("silence", target, now_ms):
            return ()
        if self._faults.take("malformed_frame", target, now_ms):
            event = event[: len(event) // 2]
        if outlet.held is not None:
            held, outlet.held = outlet.held, None
            return event, held
        if self._faults.take("reorder", target, now_ms):
            outlet.held = event
            return ()
        return (event, event) if self._faults.take("duplicate", target, now_ms) else (event,)
