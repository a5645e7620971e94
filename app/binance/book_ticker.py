"""Best bid and ask (bookTicker), as a REST row and as a stream event."""

from typing import Final

import msgspec

from app.binance.number import Number
from app.binance.unreadable import UNREADABLE


class BadBest(ValueError):
    """The bytes are not a best bid and ask in the known form."""


class Best(msgspec.Struct, frozen=True):
    """A row of REST, fields in REST's order."""

    symbol: str
    bid_price: Number = msgspec.field(name="bidPrice")
    bid_quantity: Number = msgspec.field(name="bidQty")
    ask_price: Number = msgspec.field(name="askPrice")
    ask_quantity: Number = msgspec.field(name="askQty")
    time_ms: int = msgspec.field(name="time")
    update: int = msgspec.field(name="lastUpdateId")


class _Event(msgspec.Struct):
    u: int
    T: int
    s: str
    b: Number
    B: Number
    a: Number
    A: Number


_row: Final = msgspec.json.Decoder(Best)
_event: Final = msgspec.json.Decoder(_Event)


def decode(body: bytes) -> Best:
    """Decode REST's answer for one symbol. Raises BadBest, also when a field would be lost in `encode`."""
    try:
        best = _row.decode(body)
    except UNREADABLE as error:
        raise BadBest(f"not an answer of bookTicker: {error}") from error
    if encode(best) != body:
        raise BadBest("bookTicker has fields, or a form, that are not known")
    return best


def decode_event(payload: bytes) -> Best:
    """Decode a stream event into REST's row. Raises BadBest."""
    try:
        event = _event.decode(payload)
    except UNREADABLE as error:
        raise BadBest(f"not best bid and ask: {error}") from error
    return Best(event.s, event.b, event.B, event.a, event.A, event.T, event.u)


def encode(best: Best) -> bytes:
    """Encode as an answer of bookTicker."""
    return msgspec.json.encode(best)
