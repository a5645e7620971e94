"""The messages of Binance's market sockets (binance-facts section 5)."""

from typing import Annotated, Final, NamedTuple

import msgspec

from app.binance.unreadable import UNREADABLE
from app.domain import letters
from app.domain.interval import INTERVALS, Interval
from app.domain.kline import OPEN_MS_MAX, BadKline, Kline, check


class KlineEvent(msgspec.Struct, frozen=True, gc=False):
    """A kline event: the state of `symbol`'s current kline, or its final state when `is_final`."""

    symbol: str
    interval: Interval
    event_ms: int
    is_final: bool
    kline: Kline


class ControlAnswer(NamedTuple):
    """The response to SUBSCRIBE or UNSUBSCRIBE with the same `id`; `error` is None when it was accepted."""

    id: int | str | None
    error: str | None


class StreamFrame(NamedTuple):
    """A frame of any stream: the stream's name, and the event as the exchange wrote it, undecoded."""

    stream: str
    payload: bytes


class KlineHead(NamedTuple):
    """A kline stream's name, and the text with which each of its frames begins, up to the event's brace."""

    stream: str
    text: bytes


class ServerShutdown(NamedTuple):
    """The exchange will soon close this connection; a new one should be open before that."""


class _K(msgspec.Struct, gc=False):
    t: int
    T: int
    s: str
    i: str
    o: str
    h: str
    l: str  # noqa: E741  Binance's name
    c: str
    v: str
    q: str
    V: str
    Q: str
    n: int
    x: bool


class _Data(msgspec.Struct, gc=False):
    e: str
    E: Annotated[int, msgspec.Meta(ge=0, le=OPEN_MS_MAX)] = 0
    s: str = ""
    k: _K | None = None


class _Named(msgspec.Struct, gc=False):
    e: str = ""


class _Frame(msgspec.Struct, gc=False):
    stream: str = ""
    e: str = ""
    event: _Named | None = None
    data: _Data | None = None
    id: int | str | None = None
    error: msgspec.Raw = msgspec.Raw()
    msg: str | None = None


_SHUTDOWN: Final = "serverShutdown"
"""The documents give the form `{"event":{"e":…,"E":…}}` for the WebSocket API and none for streams (2026-11), so three
forms are accepted: bare, inside `event`, and inside `data` of a combined frame."""

_decoder: Final = msgspec.json.Decoder(_Frame)
_tuple: Final = tuple.__new__


class _AnyFrame(msgspec.Struct, gc=False):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()


_ENDS: Final = b"}}}"
"""The end of a kline frame: of `k`, of `data` and of the frame."""

_any_decoder: Final = msgspec.json.Decoder(_AnyFrame)
_name_decoder: Final = msgspec.json.Decoder(_Named)


def decode(frame: bytes | str) -> KlineEvent | ControlAnswer | ServerShutdown | None:
    """Decode a combined-stream frame; None for an event that is not a kline. Raises BadKline for invalid frames."""
    try:
        message = _decoder.decode(frame)
    except UNREADABLE as error:
        raise BadKline(f"not a stream frame: {error}") from error
    if message.data is None:
        if _SHUTDOWN in (message.e, message.event.e if message.event else ""):
            return ServerShutdown()
        error_text = bytes(message.error).decode(errors="replace")
        return ControlAnswer(message.id, error_text or message.msg)
    data = message.data
    k = data.k
    if data.e != "kline" or k is None:
        return ServerShutdown() if data.e == _SHUTDOWN else None
    interval = INTERVALS.get(k.i)
    if interval is None or k.s != data.s:
        raise BadKline(f"kline event of {data.s!r:.40} carries {k.s!r:.40} {k.i!r:.10}")
    kline = _tuple(Kline, (k.t, k.o, k.h, k.l, k.c, k.v, k.q, k.n, k.V, k.Q))  # in half of the time of Kline(…)
    check(kline, interval.grid)
    if interval.grid.shift(k.t, 1) - 1 != k.T:
        raise BadKline(f"close time {k.T} does not belong to open time {k.t}")
    return KlineEvent(k.s, interval, data.E, k.x, kline)


def decode_any(frame: bytes) -> StreamFrame | ControlAnswer | ServerShutdown | None:
    """Decode a combined-stream frame without decoding its event. Raises BadKline for invalid JSON."""
    try:
        message = _any_decoder.decode(frame)
        payload = bytes(message.data)
        if message.stream and payload[:1] in (b"{", b"["):
            if not payload.isascii():
                payload.decode()  # raises on bad UTF-8, which msgspec.Raw does not check and clients would reject
            if payload[:1] == b"[" or _SHUTDOWN.encode() not in payload or _name_decoder.decode(payload).e != _SHUTDOWN:
                return StreamFrame(message.stream, payload)
            return ServerShutdown()
    except UNREADABLE as error:
        raise BadKline(f"not a stream frame: {error}") from error
    answer = decode(frame)
    return None if isinstance(answer, KlineEvent) else answer


def head_of(symbol: str, interval: Interval) -> KlineHead:
    """The head of the frames of a kline stream, for `undecoded`."""
    stream = kline_stream(symbol, interval)
    return KlineHead(stream, f'{{"stream":"{stream}","data":{{'.encode())


def undecoded(frame: bytes, head: KlineHead) -> StreamFrame | None:
    """The event of a frame from which `decode` made a KlineEvent, as the exchange wrote it; None if it has no name.

    It is cut out of the frame if nothing but the frame's end can follow it: the only braces are those of the frame, of
    `data` and of `k`, and all three close at the end. Cutting takes less than half as long as decoding the frame again,
    which is done for frames in another form. None also if the event is not UTF-8: clients would reject it.
    """
    is_usual = frame.startswith(head.text) and frame.endswith(_ENDS) and frame.isascii()
    if is_usual and frame.count(b"{") == frame.count(b"}") == len(_ENDS):
        return StreamFrame(head.stream, frame[len(head.text) - 1 : -1])
    try:
        again = decode_any(frame)
    except BadKline:
        return None
    return again if isinstance(again, StreamFrame) else None


def kline_stream(symbol: str, interval: Interval) -> str:
    """The name of a kline stream. Stream names must be lower case; the interval keeps its case."""
    return f"{letters.lower(symbol)}@kline_{interval.code}"


def subscribe(streams: list[str], request_id: int) -> str:
    """The control message that subscribes to `streams`."""
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": streams, "id": request_id}).decode()


def unsubscribe(streams: list[str], request_id: int) -> str:
    """The control message that unsubscribes from `streams`."""
    return msgspec.json.encode({"method": "UNSUBSCRIBE", "params": streams, "id": request_id}).decode()
