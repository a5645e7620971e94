"""Writes the kline events of market sockets (binance-facts section 5.4) from rows."""

from typing import Final

from app.domain.interval import Interval
from app.domain.kline import Kline

NO_TRADE_ID: Final = -1
"""`f` and `L`, the ids of a kline's first and last trade: rows do not have them."""


def kline_event(
    symbol: str, interval: Interval, kline: Kline, close_ms: int, event_ms: int, *, is_final: bool
) -> bytes:
    """The event of `<symbol>@kline_<interval>`; `close_ms` is the kline's last millisecond."""
    body = _body(f'"s":"{symbol}",', interval, kline, close_ms, is_final=is_final)
    return f'{{"e":"kline","E":{event_ms},"s":"{symbol}","k":{body}}}'.encode()


def continuous_event(
    pair: str, interval: Interval, kline: Kline, close_ms: int, event_ms: int, *, is_final: bool
) -> bytes:
    """The event of `<pair>_perpetual@continuousKline_<interval>`; `close_ms` is the kline's last millisecond."""
    body = _body("", interval, kline, close_ms, is_final=is_final)
    return f'{{"e":"continuous_kline","E":{event_ms},"ps":"{pair}","ct":"PERPETUAL","k":{body}}}'.encode()


def _body(symbol: str, interval: Interval, kline: Kline, close_ms: int, *, is_final: bool) -> str:
    """The object `k`. Texts are plain decimals and names: nothing needs escaping."""
    open_ms, o, h, low, c, volume, quote, trades, taker, taker_quote = kline
    return (
        f'{{"t":{open_ms},"T":{close_ms},{symbol}"i":"{interval.code}","f":{NO_TRADE_ID},"L":{NO_TRADE_ID},"o":"{o}",'
        f'"c":"{c}","h":"{h}","l":"{low}","v":"{volume}","n":{trades},"x":{"true" if is_final else "false"},'
        f'"q":"{quote}","V":"{taker}","Q":"{taker_quote}","B":"0"}}'
    )
