"""Rows of five-minute statistics as REST writes them: five endpoints of /futures/data (binance-facts section 2.2).

Keys in answers may come in any order, and unknown ones are ignored. Keys are printed in the order seen in live answers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from app.binance.number import are_amounts
from app.binance.unreadable import UNREADABLE
from app.domain.interval import MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.kline import OPEN_MS_MAX, BadKline

PERIOD_MS: Final = 5 * MINUTE_MS
STAMP_AFTER_OPEN_MS: Final = PERIOD_MS
"""REST's `timestamp` minus a row's open time: it is the end of the period (unconfirmed: binance-facts section 2.2)."""

OPEN_INTEREST: Final = "openInterestHist"
TOP_ACCOUNTS: Final = "topLongShortAccountRatio"
TOP_POSITIONS: Final = "topLongShortPositionRatio"
ACCOUNTS: Final = "globalLongShortAccountRatio"
TAKERS: Final = "takerlongshortRatio"

_Digits = Annotated[str, Meta(pattern=r"\A[0-9]{1,15}\Z")]
_Symbol = Annotated[str, Meta(min_length=1)]


class OpenInterestRow(NamedTuple):
    """Open interest at the end of a period: decimal texts, None where nobody knows a value."""

    open_ms: int
    sum_open_interest: str | None
    sum_open_interest_value: str | None
    cmc_circulating_supply: str | None


class RatioRow(NamedTuple):
    """Long against short at the end of a period: decimal texts, None as in OpenInterestRow."""

    open_ms: int
    long_short_ratio: str | None
    long_account: str | None
    short_account: str | None


class TakerRow(NamedTuple):
    """What takers bought and sold in a period: decimal texts, None as in OpenInterestRow."""

    open_ms: int
    buy_sell_ratio: str | None
    sell_vol: str | None
    buy_vol: str | None


class _Interest(msgspec.Struct):
    symbol: _Symbol
    interest: str = msgspec.field(name="sumOpenInterest")
    value: str = msgspec.field(name="sumOpenInterestValue")
    timestamp: int | _Digits  # the documentation quotes it in places (binance-facts section 2.2)
    supply: str | None = msgspec.field(name="CMCCirculatingSupply", default="")  # since 2025-07-02


class _Ratio(msgspec.Struct):
    symbol: _Symbol
    ratio: str = msgspec.field(name="longShortRatio")
    long: str = msgspec.field(name="longAccount")
    short: str = msgspec.field(name="shortAccount")
    timestamp: int | _Digits


class _Taker(msgspec.Struct):
    ratio: str = msgspec.field(name="buySellRatio")
    sold: str = msgspec.field(name="sellVol")
    bought: str = msgspec.field(name="buyVol")
    timestamp: int | _Digits
    symbol: str = ""  # live rows have none


_AnyRow = TypeVar("_AnyRow", OpenInterestRow, RatioRow, TakerRow)
_AnyWire = TypeVar("_AnyWire", _Interest, _Ratio, _Taker)
_interests: Final = msgspec.json.Decoder(list[_Interest])
_ratios: Final = msgspec.json.Decoder(list[_Ratio])
_takers: Final = msgspec.json.Decoder(list[_Taker])


def decode_open_interest(body: bytes, grid: Grid, symbol: str) -> list[OpenInterestRow]:
    """Decode an answer of openInterestHist for `symbol`, strictly ascending.

    Raises BadKline for the whole answer, also when one row is of another symbol.
    """
    rows = _timed(_interests, body, grid, symbol)
    return _numeric([OpenInterestRow(at, *_known(row.interest, row.value, row.supply)) for at, row in rows])


def decode_ratio(body: bytes, grid: Grid, symbol: str) -> list[RatioRow]:
    """Decode an answer of one of the three long/short ratios, as decode_open_interest does."""
    rows = _timed(_ratios, body, grid, symbol)
    return _numeric([RatioRow(at, *_known(row.ratio, row.long, row.short)) for at, row in rows])


def decode_takers(body: bytes, grid: Grid, symbol: str) -> list[TakerRow]:
    """Decode an answer of takerlongshortRatio, whose rows have no symbol, as decode_open_interest does."""
    rows = _timed(_takers, body, grid, symbol)
    return _numeric([TakerRow(at, *_known(row.ratio, row.sold, row.bought)) for at, row in rows])


def _known(*texts: str | None) -> Iterator[str | None]:
    """The texts of a row's values; the exchange writes "" for a value that it does not know."""
    return (text or None for text in texts)


def _timed(
    decoder: msgspec.json.Decoder[list[_AnyWire]], body: bytes, grid: Grid, symbol: str
) -> Iterator[tuple[int, _AnyWire]]:
    """The open time of each row and the row. Raises BadKline."""
    try:
        rows = decoder.decode(body)
    except UNREADABLE as error:
        raise BadKline(f"not statistics: {error}") from error
    newest_ms = -1
    for row in rows:
        open_ms = int(row.timestamp) - STAMP_AFTER_OPEN_MS
        if not 0 <= open_ms <= OPEN_MS_MAX or grid.floor(open_ms) != open_ms:
            raise BadKline(f"timestamp {row.timestamp} is not on the grid")
        if open_ms <= newest_ms:
            raise BadKline(f"rows out of order at {row.timestamp}")
        if row.symbol and row.symbol != symbol:
            raise BadKline(f"a row of {row.symbol!r:.60} instead of {symbol!r:.60}")
        newest_ms = open_ms
        yield open_ms, row


def _numeric(rows: list[_AnyRow]) -> list[_AnyRow]:
    """Return `rows`, or raise BadKline when a value is no plain decimal."""
    if not are_amounts([value or "" for row in rows for value in row[1:]]):
        bad = next(row for row in rows if not are_amounts([value or "" for value in row[1:]]))
        raise BadKline(f"not plain decimals at {bad.open_ms}: {bad[1:]!r:.200}")
    return rows


NO_SYMBOL: Final = '{"symbol":""'
"""How a row begins that is printed without its symbol; with_symbol inserts it."""

_OPEN_INTEREST: Final = NO_SYMBOL + (
    ',"sumOpenInterest":"%(sum_open_interest)s","sumOpenInterestValue":"%(sum_open_interest_value)s",'
    '"CMCCirculatingSupply":"%(cmc_circulating_supply)s","timestamp":%(stamp_time)d}'
)
_RATIO: Final = NO_SYMBOL + (
    ',"longAccount":"%(long_account)s","longShortRatio":"%(long_short_ratio)s",'
    '"shortAccount":"%(short_account)s","timestamp":%(stamp_time)d}'
)
_TAKERS: Final = (
    '{"buySellRatio":"%(buy_sell_ratio)s","sellVol":"%(sell_vol)s","buyVol":"%(buy_vol)s","timestamp":%(stamp_time)d}'
)


def encode_open_interest(row: OpenInterestRow, close_ms: int) -> bytes:
    """Print a row of openInterestHist without its symbol, given its last ms; a value that is None is printed as ""."""
    open_ms, interest, value, supply = row
    return (
        f'{NO_SYMBOL},"sumOpenInterest":"{interest or ""}","sumOpenInterestValue":"{value or ""}",'
        f'"CMCCirculatingSupply":"{supply or ""}","timestamp":{open_ms + STAMP_AFTER_OPEN_MS}}}'
    ).encode()


def encode_ratio(row: RatioRow, close_ms: int) -> bytes:
    """Print a row of one of the three long/short ratios, as encode_open_interest does."""
    open_ms, ratio, long, short = row
    return (
        f'{NO_SYMBOL},"longAccount":"{long or ""}","longShortRatio":"{ratio or ""}",'
        f'"shortAccount":"{short or ""}","timestamp":{open_ms + STAMP_AFTER_OPEN_MS}}}'
    ).encode()


def encode_takers(row: TakerRow, close_ms: int) -> bytes:
    """Print a row of takerlongshortRatio, which has no symbol, as encode_open_interest does."""
    open_ms, ratio, sold, bought = row
    return (
        f'{{"buySellRatio":"{ratio or ""}","sellVol":"{sold or ""}","buyVol":"{bought or ""}",'
        f'"timestamp":{open_ms + STAMP_AFTER_OPEN_MS}}}'
    ).encode()


def with_symbol(body: bytes, symbol: str) -> bytes:
    """An answer of rows that were printed without their symbol, with it. Rows of takers stay as they are."""
    return body.replace(NO_SYMBOL.encode(), b'{"symbol":' + msgspec.json.encode(symbol))


class Statistic(NamedTuple):
    """The language of one endpoint; `printed` is a template as in app.domain.kind."""

    row: type[Any]
    decode: Callable[[bytes, Grid, str], Sequence[Row]]
    encode: Callable[[Any, int], bytes]
    printed: str


_OF_RATIO: Final = Statistic(RatioRow, decode_ratio, encode_ratio, _RATIO)
STATISTICS: Final[dict[str, Statistic]] = {
    OPEN_INTEREST: Statistic(OpenInterestRow, decode_open_interest, encode_open_interest, _OPEN_INTEREST),
    TOP_ACCOUNTS: _OF_RATIO,  # the key order is seen for the other two only, in which it is the same
    TOP_POSITIONS: _OF_RATIO,
    ACCOUNTS: _OF_RATIO,
    TAKERS: Statistic(TakerRow, decode_takers, encode_takers, _TAKERS),
}
"""By endpoint: the last part of its path."""
