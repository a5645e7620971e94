"""Binance's instruments and streams (USDⓈ-M) as the collector follows them."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.binance.exchange_info import SYMBOLS_MAX
from app.domain import letters
from app.domain.instrument import Instrument, Market, pair, unambiguous
from app.domain.interval import INTERVALS, MO1
from app.domain.kline import OPEN_MS_MAX
from app.domain.records import DataType, Feed
from app.domain.symbol import TRADING
from app.domain.unreadable import BAD_JSON, Unreadable
from app.domain.venue import Channel

NAME: Final = "binance"
MARKET: Final = "/market/stream"
PUBLIC: Final = "/public/stream"
"""A stream on the wrong route is acknowledged and silent (binance-facts section 5.1)."""

AGG_TRADE: Final = "aggTrade"
DEPTH: Final = "depth@100ms"
TICKER: Final = "ticker"
MARK_PRICE: Final = "markPrice"
KLINE: Final = "kline_"

_PERPETUAL: Final = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
_DATED: Final = frozenset({"CURRENT_QUARTER", "NEXT_QUARTER"})
_STREAMS: Final = {
    DataType.TRADE: Channel(MARKET, AGG_TRADE),
    DataType.ORDERBOOK: Channel(PUBLIC, DEPTH),
    DataType.TICKER: Channel(MARKET, TICKER),
    DataType.FUNDING_RATE: Channel(MARKET, MARK_PRICE),
}


class _Symbol(msgspec.Struct, rename="camel", gc=False):
    symbol: Annotated[str, Meta(min_length=1, max_length=64)]
    base_asset: str
    quote_asset: str
    contract_type: str = ""
    status: str = ""
    delivery_date: Annotated[int, Meta(ge=0, le=OPEN_MS_MAX)] = 0


class _ExchangeInfo(msgspec.Struct):
    symbols: Annotated[list[_Symbol], Meta(max_length=SYMBOLS_MAX)]


_decoder: Final = msgspec.json.Decoder(_ExchangeInfo)


def read_instruments(body: bytes) -> list[Instrument]:
    """The perpetual and quarterly contracts of an exchangeInfo that trade; amounts are coins. Raises Unreadable."""
    try:
        symbols = _decoder.decode(body).symbols
    except BAD_JSON as error:
        raise Unreadable(f"expected an exchangeInfo ({error!s:.200}), got {body[:100]!r}") from error
    found = [one for symbol in symbols if symbol.status == TRADING and (one := _instrument(symbol)) is not None]
    return unambiguous(found)


def _instrument(symbol: _Symbol) -> Instrument | None:
    if symbol.contract_type in _PERPETUAL:
        market, name = Market.SWAP, pair(symbol.base_asset, symbol.quote_asset)
    elif symbol.contract_type in _DATED:
        market, name = Market.FUTURE, pair(symbol.base_asset, symbol.quote_asset, symbol.delivery_date)
    else:
        return None
    return None if name is None else Instrument(NAME, market, name, symbol.symbol)


def channel(feed: Feed) -> Channel | None:
    """The stream of `feed`; None for the open interest, which is polled. Raises LookupError if there is neither."""
    native, market = feed.instrument.native, feed.instrument.market
    if market is Market.SPOT or (feed.data_type is DataType.FUNDING_RATE and market is not Market.SWAP):
        raise LookupError(f"Binance USDⓈ-M has no {feed.data_type} of {native}, which is a {market} market")
    if feed.data_type is DataType.OPEN_INTEREST:
        return None
    if feed.data_type is DataType.KLINE:
        check_interval(feed.interval)
        route, stream = MARKET, f"{KLINE}{feed.interval}"
    else:
        route, stream = _STREAMS[feed.data_type]
    return Channel(route, f"{letters.lower(native)}@{stream}")


def check_interval(code: str) -> None:
    """Raise LookupError for an interval that is not offered; months cannot be counted by a constant length."""
    if code not in INTERVALS or code == MO1.code:
        offered = ", ".join(known for known in INTERVALS if known != MO1.code)
        raise LookupError(f"Binance has no klines of {code!r} to follow; choose one of {offered}")
