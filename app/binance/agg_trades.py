"""Trades put together (aggTrades) as REST states them and as the stream does, which says more about each."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.binance.number import Number
from app.binance.unreadable import UNREADABLE


class BadTrades(ValueError):
    """The bytes are not what is known of trades."""


class AggTrade(msgspec.Struct, frozen=True):
    """One row of REST, in its order; `quantity_normal` leaves out retail price improvement."""

    number: int = msgspec.field(name="a")
    price: Number = msgspec.field(name="p")
    quantity: Number = msgspec.field(name="q")
    quantity_normal: Number = msgspec.field(name="nq")
    first: int = msgspec.field(name="f")
    last: int = msgspec.field(name="l")
    time_ms: int = msgspec.field(name="T")
    is_maker: bool = msgspec.field(name="m")


_rows: Final = msgspec.json.Decoder(list[AggTrade])
_row: Final = msgspec.json.Decoder(AggTrade)


def decode(body: bytes) -> list[AggTrade]:
    """REST's rows. Raises BadTrades: also when they leave ids out, or say more than we could say again."""
    try:
        rows = _rows.decode(body)
    except UNREADABLE as error:
        raise BadTrades(f"not an answer of aggTrades: {error}") from error
    if encode(rows) != body:
        raise BadTrades("aggTrades has fields, or a form, that are not known")
    if rows and [row.number for row in rows] != list(range(rows[0].number, rows[0].number + len(rows))):
        raise BadTrades("ids are left out, or out of order")
    return rows


def decode_event(payload: bytes) -> AggTrade:
    """The row of a stream's event. Raises BadTrades."""
    try:
        return _row.decode(payload)
    except UNREADABLE as error:
        raise BadTrades(f"not a trade: {error}") from error


def encode(rows: Sequence[AggTrade]) -> bytes:
    """The answer of aggTrades."""
    return msgspec.json.encode(rows)
