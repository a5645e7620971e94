"""Mark prices, as REST rows (premiumIndex) and as stream events, which lack the interest rate."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.binance.number import Number, NumberOrNone
from app.binance.unreadable import UNREADABLE

UM: Final = 1  # `st` of USDⓈ-M rows; all-market streams also carry COIN-M rows (binance-facts section 5.4)


class BadMarks(ValueError):
    """The bytes are not mark prices in the known form."""


class Mark(msgspec.Struct, frozen=True):
    """A row of premiumIndex, fields in REST's order."""

    symbol: str
    mark_price: Number = msgspec.field(name="markPrice")
    index_price: Number = msgspec.field(name="indexPrice")
    settle_price: NumberOrNone = msgspec.field(name="estimatedSettlePrice")
    funding_rate: NumberOrNone = msgspec.field(name="lastFundingRate")
    interest_rate: NumberOrNone = msgspec.field(name="interestRate")
    next_funding_ms: int = msgspec.field(name="nextFundingTime")
    time_ms: int = msgspec.field(name="time")


class MarkUpdate(msgspec.Struct, frozen=True):
    """A row of a `!markPrice@arr` event."""

    event_ms: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    mark_price: Number = msgspec.field(name="p")
    index_price: Number = msgspec.field(name="i")
    settle_price: NumberOrNone = msgspec.field(name="P")
    funding_rate: NumberOrNone = msgspec.field(name="r")
    next_funding_ms: int = msgspec.field(name="T")
    market: int = msgspec.field(name="st", default=UM)


_marks: Final = msgspec.json.Decoder(list[Mark])
_updates: Final = msgspec.json.Decoder(list[MarkUpdate])


def decode(body: bytes) -> list[Mark]:
    """Decode premiumIndex of all symbols. Raises BadMarks, also when a field would be lost in `encode`."""
    try:
        marks = _marks.decode(body)
    except UNREADABLE as error:
        raise BadMarks(f"not an answer of premiumIndex: {error}") from error
    if encode(marks) != body:
        raise BadMarks("premiumIndex has fields, or a form, that are not known")
    return marks


def decode_updates(payload: bytes) -> list[MarkUpdate]:
    """Decode the USDⓈ-M rows of a `!markPrice@arr` event. Raises BadMarks."""
    try:
        return [update for update in _updates.decode(payload) if update.market == UM]
    except UNREADABLE as error:
        raise BadMarks(f"not mark prices: {error}") from error


def encode(marks: Sequence[Mark] | Mark) -> bytes:
    """Encode as an answer of premiumIndex: an array, or one object for a single Mark."""
    return msgspec.json.encode(marks)


def updated(mark: Mark, update: MarkUpdate) -> Mark:
    """`mark` after `update`. A contract without a next funding keeps REST's funding rate and time."""
    has_funding = update.next_funding_ms > 0
    return Mark(
        mark.symbol,
        update.mark_price,
        update.index_price,
        update.settle_price,
        update.funding_rate if has_funding else mark.funding_rate,
        mark.interest_rate,
        update.next_funding_ms if has_funding else mark.next_funding_ms,
        update.event_ms,
    )
