"""What the exchange says of the time: `{"serverTime":1793491200000}`, and which times it can mean at all."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.binance.unreadable import UNREADABLE

SERVER_MS_MIN: Final = 1_500_000_000_000  # July 2017: the exchange opened
SERVER_MS_MAX: Final = 9_999_999_999_999  # the year 2286: the last with 13 digits


class BadServerTime(ValueError):
    """The answer tells no time; the clock known before stays in force."""


class _ServerTime(msgspec.Struct):
    time_ms: Annotated[int, Meta(ge=SERVER_MS_MIN, le=SERVER_MS_MAX)] = msgspec.field(name="serverTime")


_decoder: Final = msgspec.json.Decoder(_ServerTime)


def decode(body: bytes) -> int:
    """The exchange's clock, in ms. Raises BadServerTime."""
    try:
        return _decoder.decode(body).time_ms
    except UNREADABLE as error:
        raise BadServerTime(f"no time: {error}: {body!r:.80}") from error


def plausible(time_ms: int) -> int | None:
    """`time_ms` when the exchange can mean it, else None."""
    return time_ms if SERVER_MS_MIN <= time_ms <= SERVER_MS_MAX else None
