"""Klines of trades, the kind that sockets, REST and the archive have and that is rolled up."""

from typing import Final

from app.binance import rest_rows
from app.binance.weights import klines_weight
from app.domain.kind import Kind, RestPages
from app.domain.kline import Kline

COLUMNS: Final = (
    ("open_time", int),
    ("open", str),
    ("high", str),
    ("low", str),
    ("close", str),
    ("volume", str),
    ("quote_volume", str),
    ("trades", int),
    ("taker_buy_volume", str),
    ("taker_buy_quote_volume", str),
)
PRINTED: Final = (
    '[%(open_time)d,"%(open)s","%(high)s","%(low)s","%(close)s","%(volume)s",%(close_time)d,'
    '"%(quote_volume)s",%(trades)d,"%(taker_buy_volume)s","%(taker_buy_quote_volume)s","0"]'
)
ROWS_MAX: Final = 1_500  # the exchange refuses a larger limit, it does not cap it (binance-facts section 3)
ROWS_THRIFTY: Final = 499  # weight 2: the most rows per weight of all documented brackets (binance-facts section 3)

LIVE_AGE_MS_MAX: Final = 10_000
"""How long a live kline may be served after the last REST answer or the last frame of the socket that carries it."""


def encode(kline: Kline, close_ms: int) -> bytes:
    """The same text as formatting with PRINTED."""
    open_ms, o, h, low, c, volume, quote, trades, taker, taker_quote = kline
    return (
        f'[{open_ms},"{o}","{h}","{low}","{c}","{volume}",{close_ms},"{quote}",{trades},"{taker}","{taker_quote}","0"]'
    ).encode()


KLINES: Final = Kind(
    name="trades",
    suffix="",
    row=Kline,
    columns=COLUMNS,
    table="kline",
    printed=PRINTED,
    encoder=encode,
    rest=RestPages(
        path="/fapi/v1/klines",
        symbol="symbol",
        interval="interval",
        rows_max=ROWS_MAX,
        rows_thrifty=ROWS_THRIFTY,
        weight=klines_weight,
        decode=rest_rows.decode,
    ),
    follows_symbols=True,
    begins_with_listing=True,
    rolls_up=True,
    is_streamed=True,
    is_archived=True,
    live_age_ms_max=LIVE_AGE_MS_MAX,
)
