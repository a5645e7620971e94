"""The delivery of events to the subscribers of a stream, with the faults of frames."""

from dataclasses import dataclass, field
from typing import Protocol

from infra.sandbox.faults import FRAME_KINDS, Fault, FaultBoard, Target

_SEQUENCED = ("aggTrade", "trade", "depth@", "rpiDepth@")  # streams whose frames have consecutive ids


class Subscriber(Protocol):
    """The receiver of events: a socket."""

    def deliver(self, stream: str, event: str) -> None:
        """Accept an event of `stream` (JSON text) without blocking."""
        ...


@dataclass(slots=True, eq=False)
class Outlet:
    """A stream with its subscribers, and the event that a fault holds back."""

    name: str
    subscribers: dict[Subscriber, None] = field(default_factory=dict)
    held: str | None = None


class Publisher:
    """Sends events to all subscribers of a stream, subject to faults."""

    def __init__(self, faults: FaultBoard) -> None:
        self._faults = faults
        self.frames_sent = 0

    @property
    def is_faulty(self) -> bool:
        """Whether a fault may hit frames; checked once a tick, not for each frame."""
        return self._faults.any_of(FRAME_KINDS)

    def refusal(self, target: Target, now_ms: int) -> Fault | None:
        """The fault by which a control message is refused; None if there is none."""
        return self._faults.take("error_answer", target, now_ms)

    def send(self, outlet: Outlet, target: Target, event: str, now_ms: int, *, faulty: bool) -> None:
        """Send `event` to all subscribers; a fault may drop, delay, duplicate or damage it."""
        events = self._spoil(outlet, target, event, now_ms) if faulty or outlet.held else (event,)
        for each in events:
            self.frames_sent += len(outlet.subscribers)
            for subscriber in tuple(outlet.subscribers):
                subscriber.deliver(outlet.name, each)

    def _spoil(self, outlet: Outlet, target: Target, event: str, now_ms: int) -> tuple[str, ...]:
        """The events to send for `event` after its faults."""
        if self._faults.take("silence", target, now_ms):
            return ()
        if outlet.name.partition("@")[2].startswith(_SEQUENCED) and self._faults.take("gap", target, now_ms):
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
