"""Aggregate trades (aggTrades), as REST rows and as stream events, which have more fields."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.binance.number import Number
from app.binance.unreadable import UNREADABLE


class BadTrades(ValueError):
    """The bytes are not aggregate trades in the known form."""


class AggTrade(msgspec.Struct, frozen=True):
    """A row of REST, fields in REST's order; `quantity_normal` excludes retail price improvement (RPI) orders."""

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
    """Decode an answer of REST. Raises BadTrades, also when ids are missing or a field would be lost in `encode`."""
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
    """Decode a stream event into REST's row. Raises BadTrades."""
    try:
        return _row.decode(payload)
    except UNREADABLE as error:
        raise BadTrades(f"not a trade: {error}") from error


def encode(rows: Sequence[AggTrade]) -> bytes:
    """Encode rows as an answer of aggTrades."""
    return msgspec.json.encode(rows)
