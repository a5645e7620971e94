"""What is known of some symbols while somebody asks: each has a stream, left when nobody has asked for a while."""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from app.domain import letters
from app.domain.validity import is_fresh
from app.ports.streams import Listener, StreamHub, StreamsFull

SYMBOLS_MAX: Final = 32  # at a time: a stream for each, of which busy ones have hundreds of frames a second
IDLE_MS: Final = 60_000  # nobody has asked for so long: the stream is left


class Asked(Protocol):
    """What is known of a symbol, and when it was asked for last."""

    asked_ms: int


A = TypeVar("A", bound=Asked)


class Listened(Generic[A]):
    """The symbols that are asked for. `kind` names their streams: `btcusdt@<kind>`."""

    def __init__(self, hub: StreamHub, kind: str, hear: Listener, new: Callable[[int], A]) -> None:
        self._hub = hub
        self._kind = kind
        self._hear = hear
        self._new = new
        self._of: dict[str, A] = {}

    def get(self, symbol: str) -> A | None:
        """What is known of a symbol; None when it is not listened to."""
        return self._of.get(symbol)

    def asked(self, symbol: str, now_ms: int) -> A | None:
        """The same for somebody who asks: it is listened to from now on; None when there are too many already."""
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
        """Leave the streams of which nobody has asked for a while."""
        for symbol in [name for name, each in self._of.items() if not is_fresh(each.asked_ms, now_ms, IDLE_MS)]:
            self._hub.leave(self._stream(symbol), self._hear)
            del self._of[symbol]

    def _stream(self, symbol: str) -> str:
        return f"{letters.lower(symbol)}@{self._kind}"
