"""Kline rows as REST writes them: `[[openTime,"o","h","l","c","v",closeTime,"q",n,"V","Q","0"], …]`."""

from collections.abc import Iterable
from typing import Final

import msgspec

from app.binance.unreadable import UNREADABLE
from app.domain.interval import Grid
from app.domain.kline import BadKline, Kline, check

_Row = tuple[int, str, str, str, str, str, int, str, int, str, str, str]
_decoder: Final = msgspec.json.Decoder(list[_Row])


def decode(body: bytes, grid: Grid, _symbol: str = "", *, is_signed: bool = False) -> list[Kline]:
    """Decode a REST answer into checked klines, strictly ascending. Raises BadKline for the whole answer.

    Rows of klines do not state their symbol, so it cannot be checked. Only where `is_signed` may prices be negative.
    """
    try:
        rows = _decoder.decode(body)
    except UNREADABLE as error:
        raise BadKline(f"not kline rows: {error}") from error
    klines: list[Kline] = []
    for open_ms, o, h, low, c, volume, close_ms, quote, trades, taker, taker_quote, _ in rows:
        kline = Kline(open_ms, o, h, low, c, volume, quote, trades, taker, taker_quote)
        check(kline, grid, is_signed=is_signed)
        if close_ms != grid.shift(open_ms, 1) - 1:
            raise BadKline(f"close time {close_ms} does not belong to open time {open_ms}")
        if klines and open_ms <= klines[-1].open_ms:
            raise BadKline(f"rows out of order at {open_ms}")
        klines.append(kline)
    return klines


def join(rows: Iterable[bytes]) -> bytes:
    """The body of an answer: a JSON array of encoded rows."""
    return b"[" + b",".join(rows) + b"]"


def join_text(text: bytes | memoryview, rows: Iterable[bytes] = ()) -> bytes:
    """The body of an answer: a JSON array of `text`, rows already joined by commas, and of further `rows`."""
    if not len(text):
        return join(rows)
    return b"".join((b"[", text, *[b"," + row for row in rows], b"]"))
