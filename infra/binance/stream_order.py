"""Merges the frames of two sockets that carry the same stream, without repetition and in order."""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from app.binance.stream_name import parse
from app.binance.unreadable import UNREADABLE
from app.domain.validity import is_fresh
from app.ports.clock import Clock
from app.ports.streams import Listener

HOLD_MS: Final = 1_000  # the most that two sockets may differ; older frames that arrive later are dropped
RELEASE_S: Final = 1.0
WAITING_MAX: Final = 1_000  # events of a stream that wait for the old socket; the busiest has about a hundred a second


class _Depth(msgspec.Struct, gc=False):
    u: int


class _AggTrade(msgspec.Struct, gc=False):
    a: int


class _Trade(msgspec.Struct, gc=False):
    t: int


class _K(msgspec.Struct, gc=False):
    t: int = 0
    n: int = 0
    x: bool = False


class _Timed(msgspec.Struct, gc=False):
    E: int = 0
    k: _K | None = None


_depth: Final = msgspec.json.Decoder(_Depth)
_agg_trade: Final = msgspec.json.Decoder(_AggTrade)
_trade: Final = msgspec.json.Decoder(_Trade)
_timed: Final = msgspec.json.Decoder(_Timed | list[_Timed])

Place = tuple[int, ...]


def _timed_place(payload: bytes) -> Place:
    event = _timed.decode(payload)
    if isinstance(event, list):
        return (event[0].E,) if event else (0,)
    return (event.E, event.k.t, event.k.x, event.k.n) if event.k is not None else (event.E,)


_NUMBERED: Final[dict[str, Callable[[bytes], Place]]] = {
    "depth": lambda payload: (_depth.decode(payload).u,),
    "rpiDepth": lambda payload: (_depth.decode(payload).u,),
    "partialDepth": lambda payload: (_depth.decode(payload).u,),
    "bookTicker": lambda payload: (_depth.decode(payload).u,),
    "aggTrade": lambda payload: (_agg_trade.decode(payload).a,),
    "trade": lambda payload: (_trade.decode(payload).t,),
}


def is_newer(stream: str, payload: bytes, last: bytes) -> bool:
    """Whether `payload` is newer than `last`, by its id or event time; True if that cannot be told."""
    name = parse(stream)
    numbered = _NUMBERED.get(name.kind) if name is not None else None
    try:
        if numbered is not None:
            return numbered(payload) > numbered(last)
        return payload != last and _timed_place(payload) >= _timed_place(last)
    except UNREADABLE:
        return True


class InOrder:
    """Delivers each event once and in its stream's order, also while an old and a new socket carry the stream.

    The old socket leads. An event that arrives first on the new socket waits until it also arrives on the old one, the
    old one has closed, or HOLD_MS have passed. So a faster new socket does not cause events in flight on the old one to
    be dropped.
    """

    def __init__(self, clock: Clock, deliver: Listener) -> None:
        self._clock = clock
        self._deliver = deliver
        self._last: dict[str, bytes] = {}
        self._waiting: dict[str, deque[tuple[int, bytes]]] = {}

    def take(self, stream: str, payload: bytes, *, is_doubled: bool, is_ahead: bool) -> None:
        """Process an event; `is_doubled`: two sockets carry the stream, `is_ahead`: this is the new one of them."""
        if is_ahead:
            if self._is_newer(stream, payload):
                waiting = self._waiting.setdefault(stream, deque())
                waiting.append((self._clock.now_ms(), payload))
                if len(waiting) > WAITING_MAX:
                    self._let_go(stream)
            return
        if not is_doubled:
            if stream in self._waiting:
                self._let_go(stream)
            if payload != self._last.get(stream):
                self._hand_on(stream, payload)
        elif self._is_newer(stream, payload):
            self._hand_on(stream, payload)
            self._prune(stream)

    def release(self) -> None:
        """Deliver events that have waited for HOLD_MS; called every RELEASE_S."""
        now_ms = self._clock.now_ms()
        for stream in [stream for stream, held in self._waiting.items() if not is_fresh(held[0][0], now_ms, HOLD_MS)]:
            self._let_go(stream)

    def forget(self, stream: str) -> None:
        """Free the state of a stream that is no longer wanted."""
        self._last.pop(stream, None)
        self._waiting.pop(stream, None)

    def _is_newer(self, stream: str, payload: bytes) -> bool:
        last = self._last.get(stream)
        return last is None or is_newer(stream, payload, last)

    def _prune(self, stream: str) -> None:
        waiting = self._waiting.get(stream)
        if waiting is not None:
            while waiting and not self._is_newer(stream, waiting[0][1]):
                waiting.popleft()
            if not waiting:
                del self._waiting[stream]

    def _let_go(self, stream: str) -> None:
        for _, payload in self._waiting.pop(stream):
            if self._is_newer(stream, payload):
                self._hand_on(stream, payload)

    def _hand_on(self, stream: str, payload: bytes) -> None:
        self._last[stream] = payload
        self._deliver(stream, payload)
