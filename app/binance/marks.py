"""Mark prices as REST's premiumIndex states them and as the stream does, which lacks the interest rate."""

from collections.abc import Sequence
from typing import Final

import msgspec

from app.binance.number import Number, NumberOrNone
from app.binance.unreadable import UNREADABLE

UM: Final = 1  # `st` of this market's rows; all-market streams carry those of the other one too (binance-facts 5.4)


class BadMarks(ValueError):
    """The bytes are not what is known of mark prices."""


class Mark(msgspec.Struct, frozen=True):
    """One row of premiumIndex, in its order."""

    symbol: str
    mark_price: Number = msgspec.field(name="markPrice")
    index_price: Number = msgspec.field(name="indexPrice")
    settle_price: NumberOrNone = msgspec.field(name="estimatedSettlePrice")
    funding_rate: NumberOrNone = msgspec.field(name="lastFundingRate")
    interest_rate: NumberOrNone = msgspec.field(name="interestRate")
    next_funding_ms: int = msgspec.field(name="nextFundingTime")
    time_ms: int = msgspec.field(name="time")


class MarkUpdate(msgspec.Struct, frozen=True):
    """One row of `!markPrice@arr`."""

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
    """The rows of premiumIndex of all symbols. Raises BadMarks: also when a row says more than we could say again."""
    try:
        marks = _marks.decode(body)
    except UNREADABLE as error:
        raise BadMarks(f"not an answer of premiumIndex: {error}") from error
    if encode(marks) != body:
        raise BadMarks("premiumIndex has fields, or a form, that are not known")
    return marks


def decode_updates(payload: bytes) -> list[MarkUpdate]:
    """The rows of a frame that are of this market. Raises BadMarks."""
    try:
        return [update for update in _updates.decode(payload) if update.market == UM]
    except UNREADABLE as error:
        raise BadMarks(f"not mark prices: {error}") from error


def encode(marks: Sequence[Mark] | Mark) -> bytes:
    """The answer of premiumIndex."""
    return msgspec.json.encode(marks)


def updated(mark: Mark, update: MarkUpdate) -> Mark:
    """The row after an update. What has no next funding has no rate either, and REST's form of that stays."""
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
