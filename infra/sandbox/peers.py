"""The exchange's side of one socket, without I/O: the caller moves texts and says what time it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from infra.sandbox.faults import BEFALLING_KINDS, FRAME_KINDS, Fault, FaultBoard, Target
from infra.sandbox.grid import SECOND_MS

HALF_OPEN_MS = 600_000  # a half-open socket is dropped after so long, as Binance's are
CUT = 1006  # no close frame
GOING_AWAY = 1001
STREAMS_MAX = 1_024  # of one socket
_KINDS = ("cut", "half_open", "rotation")  # the faults of open sockets that these venues have


class Stream(ABC):
    """One subscription of one socket, with the state of what was sent."""

    def __init__(self, key: str, symbol: str, *, interval: str = "", is_sequenced: bool = False) -> None:
        self.key, self.symbol, self.interval = key, symbol, interval
        self.is_sequenced = is_sequenced
        self.held: str | None = None
        """The frame that a fault sends after the next one."""

    @abstractmethod
    def frames(self, now_ms: int) -> Iterable[str]:
        """The frames due at `now_ms`, after those of earlier calls."""


class Peer(ABC):
    """The exchange's side of a socket. Its owner calls `push` about every 100 ms, and sends what both calls return.

    When `is_closed` is true after a call, the returned frames are the last ones; `close_code` CUT means that the
    connection breaks without a close frame.
    """

    def __init__(self, venue: str, faults: FaultBoard, path: str, now_ms: int) -> None:
        self.venue_name, self.faults, self.path = venue, faults, path
        self.streams: dict[str, Stream] = {}
        self.is_closed, self.close_code, self.close_reason = False, 0, ""
        self._heard_ms = self._traffic_ms = now_ms
        self._suffers: dict[str, tuple[int, Fault]] = {}
        self._ends_ms: int | None = None
        self._queued: list[str] = []

    def receive(self, text: str, now_ms: int) -> list[str]:
        """The answers to a message of the client."""
        if self.is_closed or "half_open" in self._suffers:
            return []
        self._heard_ms = self._traffic_ms = now_ms
        return self._answers(text, now_ms)

    def push(self, now_ms: int) -> list[str]:
        """The frames that are due since the last call."""
        self._befall_waiting(now_ms)
        if self.is_closed:
            return []
        if self._ends_ms is not None and now_ms >= self._ends_ms:
            self.close(CUT if "half_open" in self._suffers else GOING_AWAY, "going away")
        if "half_open" in self._suffers:
            return []
        due = self._due(now_ms)
        out, self._queued = [*self._queued, *due, *self._keep_alive(now_ms)], []
        if out:
            self._traffic_ms = now_ms
        return out

    def _due(self, now_ms: int) -> list[str]:
        """The frames of all streams after their faults."""
        out: list[str] = []
        is_faulty = self.faults.any_of(FRAME_KINDS)
        for stream in tuple(self.streams.values()):
            frames = stream.frames(now_ms)
            out.extend(self._spoiled(stream, frames, now_ms) if is_faulty or stream.held else frames)
        return out

    def befall(self, fault: Fault, now_ms: int) -> None:
        """Apply a fault of open sockets from now on."""
        self._suffers[fault.kind] = (now_ms, fault)
        match fault.kind:
            case "cut":
                self.close(CUT, "cut")
            case "half_open":
                self._ends_ms = now_ms + HALF_OPEN_MS
            case "rotation":
                self._ends_ms = now_ms + int(fault.delay_s * SECOND_MS)
                self._queued.extend(self._notice(now_ms))

    def suffer(self, kinds: Iterable[str], now_ms: int) -> None:
        """Apply the active faults of `kinds` that match, each kind at most once."""
        target = Target(path=self.path, streams=self._names(), venue=self.venue_name)
        for kind in _KINDS:
            if kind in kinds and kind not in self._suffers and not self.is_closed:
                fault = self.faults.take(kind, target, now_ms)
                if fault is not None:
                    self.befall(fault, now_ms)

    def close(self, code: int, reason: str) -> None:
        """End the connection after the frames that the current call returns."""
        if not self.is_closed:
            self.is_closed, self.close_code, self.close_reason = True, code, reason

    def _names(self) -> tuple[str, ...]:
        """The names of the subscribed streams."""
        return tuple(self.streams)

    @abstractmethod
    def _answers(self, text: str, now_ms: int) -> list[str]:
        """The answers to a message."""

    def _keep_alive(self, now_ms: int) -> list[str]:
        """The frames that keep the connection alive; closes it if the client does not."""
        del now_ms
        return []

    @abstractmethod
    def _notice(self, now_ms: int) -> list[str]:
        """What the exchange announces before it closes a connection for maintenance."""

    def _befall_waiting(self, now_ms: int) -> None:
        if self.faults.any_of(BEFALLING_KINDS):
            self.suffer(_KINDS, now_ms)

    def _spoiled(self, stream: Stream, frames: Iterable[str], now_ms: int) -> Iterator[str]:
        """The frames after their faults."""
        faults = self.faults
        target = Target(stream.symbol, stream.interval, self.path, (stream.key,), self.venue_name)
        for text in frames:
            if faults.take("silence", target, now_ms):
                continue
            if stream.is_sequenced and faults.take("gap", target, now_ms):
                continue
            frame = text[: len(text) // 2] if faults.take("malformed_frame", target, now_ms) else text
            if stream.held is not None:
                yield frame
                yield stream.held
                stream.held = None
            elif faults.take("reorder", target, now_ms):
                stream.held = frame
            else:
                yield frame
                if faults.take("duplicate", target, now_ms):
                    yield frame
