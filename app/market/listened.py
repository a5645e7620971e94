"""State per symbol that clients request: each symbol's stream is joined on the first request and left when idle."""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from app.domain import letters
from app.domain.validity import is_fresh
from app.ports.streams import Listener, StreamHub, StreamsFull

SYMBOLS_MAX: Final = 32  # at a time; each has a stream, and a busy stream has hundreds of frames a second
IDLE_MS: Final = 60_000  # without a request for so long, the stream is left


class Asked(Protocol):
    """The state of one symbol, with the time of the last request for it."""

    asked_ms: int


A = TypeVar("A", bound=Asked)


class Listened(Generic[A]):
    """The symbols that clients request, at most SYMBOLS_MAX, each with its stream `<symbol>@<kind>` and its state."""

    def __init__(self, hub: StreamHub, kind: str, hear: Listener, new: Callable[[int], A]) -> None:
        self._hub = hub
        self._kind = kind
        self._hear = hear
        self._new = new
        self._of: dict[str, A] = {}

    def get(self, symbol: str) -> A | None:
        """The state of a symbol; None when its stream is not joined."""
        return self._of.get(symbol)

    def asked(self, symbol: str, now_ms: int) -> A | None:
        """Record a request for a symbol and join its stream; None when SYMBOLS_MAX or the hub's bound is reached."""
        self.release(now_ms)
        found = self._of.get(symbol)
        if found is None:
            if len(self._of) >= SYMBOLS_MAX:
                return None
            try:
                self._hub.join(self._stream(symbol), self._hear)
            except StreamsFull:
                return None
            found = self._of[symbol] = self._new(now_ms)
        found.asked_ms = now_ms
        return found

    def release(self, now_ms: int) -> None:
        """Leave the streams of symbols without a request for IDLE_MS, and drop their state."""
        for symbol in [name for name, each in self._of.items() if not is_fresh(each.asked_ms, now_ms, IDLE_MS)]:
            self._hub.leave(self._stream(symbol), self._hear)
            del self._of[symbol]

    def _stream(self, symbol: str) -> str:
        return f"{letters.lower(symbol)}@{self._kind}"
