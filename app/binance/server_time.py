"""The exchange's clock: `{"serverTime":1793491200000}`, and which values are plausible."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.binance.unreadable import UNREADABLE

SERVER_MS_MIN: Final = 1_500_000_000_000  # July 2017: the exchange opened
SERVER_MS_MAX: Final = 9_999_999_999_999  # the year 2286: the last with 13 digits


class BadServerTime(ValueError):
    """The answer contains no plausible time; the clock known before stays in use."""


class _ServerTime(msgspec.Struct):
    time_ms: Annotated[int, Meta(ge=SERVER_MS_MIN, le=SERVER_MS_MAX)] = msgspec.field(name="serverTime")


_decoder: Final = msgspec.json.Decoder(_ServerTime)


def decode(body: bytes) -> int:
    """Decode the exchange's clock, ms since the epoch. Raises BadServerTime."""
    try:
        return _decoder.decode(body).time_ms
    except UNREADABLE as error:
        raise BadServerTime(f"no time: {error}: {body!r:.80}") from error


def plausible(time_ms: int) -> int | None:
    """`time_ms` if it has 13 digits and is after the exchange opened, else None."""
    return time_ms if SERVER_MS_MIN <= time_ms <= SERVER_MS_MAX else None
