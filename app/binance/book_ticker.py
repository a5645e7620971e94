"""Best bid and ask as REST's bookTicker states them and as the stream does."""

from typing import Final

import msgspec

from app.binance.number import Number
from app.binance.unreadable import UNREADABLE


class BadBest(ValueError):
    """The bytes are not what is known of best bid and ask."""


class Best(msgspec.Struct, frozen=True):
    """A row of REST, in its order."""

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
    """REST's answer about one symbol. Raises BadBest: also when it says more than we could say again."""
    try:
        best = _row.decode(body)
    except UNREADABLE as error:
        raise BadBest(f"not an answer of bookTicker: {error}") from error
    if encode(best) != body:
        raise BadBest("bookTicker has fields, or a form, that are not known")
    return best


def decode_event(payload: bytes) -> Best:
    """What an event of the stream says, as REST would say it. Raises BadBest."""
    try:
        event = _event.decode(payload)
    except UNREADABLE as error:
        raise BadBest(f"not best bid and ask: {error}") from error
    return Best(event.s, event.b, event.B, event.a, event.A, event.T, event.u)


def encode(best: Best) -> bytes:
    """The answer of bookTicker."""
    return msgspec.json.encode(best)
