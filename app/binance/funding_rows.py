"""Funding events as REST writes them: rows of /fapi/v1/fundingRate at irregular times (binance-facts section 2.1)."""

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from app.binance.number import AmountOrNone, Number
from app.binance.statistics_rows import NO_SYMBOL, with_symbol
from app.binance.unreadable import UNREADABLE
from app.domain.interval import HOUR_MS, MINUTE_MS, Grid
from app.domain.kline import OPEN_MS_MAX, BadKline

STAMP_AFTER_OPEN_MS: Final = HOUR_MS - MINUTE_MS
"""REST's `fundingTime` minus a row's open time. An event belongs to a full hour, and its time may be some ms off it: so
that of 08:00 opens at about 07:01, in the hour of open times that has closed at 08:00."""

_Word = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_ -]{0,40}\Z")]
_Symbol = Annotated[str, Meta(min_length=1)]


class FundingRow(NamedTuple):
    """One funding event: `open_ms` is STAMP_AFTER_OPEN_MS before its time, to the ms; the others are texts as sent.

    `mark_price` is "" for events before about 2022. It is None in the archive, and `rate_type` there and where REST has
    none (before 2026-07-23).
    """

    open_ms: int
    funding_rate: str
    mark_price: str | None
    rate_type: str | None


class _Wire(msgspec.Struct):
    symbol: _Symbol
    time_ms: int = msgspec.field(name="fundingTime")
    rate: Number = msgspec.field(name="fundingRate")
    mark: AmountOrNone = msgspec.field(name="markPrice", default="")
    kind: _Word | None = msgspec.field(name="rateType", default=None)


_decoder: Final = msgspec.json.Decoder(list[_Wire])

PRINTED: Final = NO_SYMBOL + (
    ',"fundingTime":%(stamp_time)d,"fundingRate":"%(funding_rate)s","markPrice":"%(mark_price)s",'
    '"rateType":"%(rate_type)s"}'
)
"""A template as in app.domain.kind, without the symbol."""
_NO_RATE_TYPE: Final = b',"rateType":""'


def decode(body: bytes, _grid: Grid, symbol: str) -> list[FundingRow]:
    """Decode an answer for `symbol`, strictly ascending; several events may lie in one step of the grid.

    Raises BadKline for the whole answer, also when one row is of another symbol.
    """
    rows = _read(body)
    newest_ms = -1
    for name, row in rows:
        if name != symbol:
            raise BadKline(f"a row of {name!r:.60} instead of {symbol!r:.60}")
        if row.open_ms <= newest_ms:
            raise BadKline(f"rows out of order at {row.open_ms}")
        newest_ms = row.open_ms
    return [row for _, row in rows]


def decode_all(body: bytes) -> list[tuple[str, FundingRow]]:
    """Decode an answer for all symbols, ascending for each of them. Raises BadKline for the whole answer."""
    rows = _read(body)
    newest_ms: dict[str, int] = {}
    for name, row in rows:
        if row.open_ms <= newest_ms.get(name, -1):
            raise BadKline(f"rows of {name!r:.60} out of order at {row.open_ms}")
        newest_ms[name] = row.open_ms
    return rows


def encode(row: FundingRow, close_ms: int) -> bytes:
    """Print a row without its symbol; None is printed as "". `completed` makes it what REST sends."""
    open_ms, rate, mark, kind = row
    return (
        f'{NO_SYMBOL},"fundingTime":{open_ms + STAMP_AFTER_OPEN_MS},"fundingRate":"{rate}",'
        f'"markPrice":"{mark or ""}","rateType":"{kind or ""}"}}'
    ).encode()


def completed(body: bytes, symbol: str) -> bytes:
    """An answer of printed rows with their symbol, and without the rate types that nobody has sent."""
    return with_symbol(body, symbol).replace(_NO_RATE_TYPE, b"")


def _read(body: bytes) -> list[tuple[str, FundingRow]]:
    try:
        rows = _decoder.decode(body)
    except UNREADABLE as error:
        raise BadKline(f"not funding rates: {error}") from error
    for row in rows:
        if not STAMP_AFTER_OPEN_MS <= row.time_ms <= OPEN_MS_MAX:
            raise BadKline(f"funding time {row.time_ms}")
    return [(row.symbol, FundingRow(row.time_ms - STAMP_AFTER_OPEN_MS, row.rate, row.mark, row.kind)) for row in rows]
