"""Which of two frames of one stream is the newer: two sockets that carry it at once must not repeat anything."""

from collections.abc import Callable
from typing import Final

import msgspec

from app.wire.stream_name import parse
from app.wire.unreadable import UNREADABLE


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
    """Whether `payload` comes after `last`; what cannot be told apart does."""
    name = parse(stream)
    numbered = _NUMBERED.get(name.kind) if name is not None else None
    try:
        if numbered is not None:
            return numbered(payload) > numbered(last)
        return payload != last and _timed_place(payload) >= _timed_place(last)
    except UNREADABLE:
        return True


class Unrepeated:
    """The newest frame of each stream, and what it makes of the next one."""

    def __init__(self) -> None:
        self._last: dict[str, bytes] = {}

    def takes(self, stream: str, payload: bytes, *, is_doubled: bool) -> bool:
        """Whether `payload` is to be handed on; `is_doubled` while two sockets carry the stream."""
        last = self._last.get(stream)
        if last is not None and (payload == last or (is_doubled and not is_newer(stream, payload, last))):
            return False
        self._last[stream] = payload
        return True

    def forget(self, stream: str) -> None:
        """The stream is no longer wanted."""
        self._last.pop(stream, None)
