"""The names of OKX's channels and bars: which of them bring a feed."""

from typing import Final

from app.domain.records import DataType, Feed
from app.domain.venue import Channel

PUBLIC: Final = "/ws/v5/public"
BUSINESS: Final = "/ws/v5/business"

TRADES: Final = "trades-all"
"""One trade in each push; the channel `trades` joins several fills into one row, which nothing could count."""
BOOKS: Final = "books"
TICKERS: Final = "tickers"
FUNDING: Final = "funding-rate"
OPEN_INTEREST: Final = "open-interest"
CANDLE: Final = "candle"

_BARS: Final = {
    **{f"{minutes}m": f"{minutes}m" for minutes in (1, 3, 5, 15, 30)},
    **{f"{hours}h": f"{hours}H" for hours in (1, 2, 4)},
    "6h": "6Hutc",
    "12h": "12Hutc",
    "1d": "1Dutc",
    "3d": "3Dutc",
    "1w": "1Wutc",
}
"""Bars by interval. From 6h on, bars without `utc` open by UTC+8. Months cannot be counted by a constant length."""

INTERVALS: Final = {f"{CANDLE}{bar}": interval for interval, bar in _BARS.items()}
"""Intervals by channel."""

_CHANNELS: Final = {
    DataType.TRADE: Channel(BUSINESS, TRADES),
    DataType.ORDERBOOK: Channel(PUBLIC, BOOKS),
    DataType.TICKER: Channel(PUBLIC, TICKERS),
    DataType.FUNDING_RATE: Channel(PUBLIC, FUNDING),
    DataType.OPEN_INTEREST: Channel(PUBLIC, OPEN_INTEREST),
}


def bar(interval: str) -> str:
    """OKX's name of an interval. Raises LookupError for one that it does not offer."""
    found = _BARS.get(interval)
    if found is None:
        raise LookupError(f"OKX has no klines of {interval!r}; choose one of {', '.join(_BARS)}")
    return found


def channel(feed: Feed) -> Channel:
    """The channel that brings `feed`; its name is `channel:instId`. Raises LookupError if there is none."""
    native = feed.instrument.native
    if feed.data_type is DataType.KLINE:
        return Channel(BUSINESS, f"{CANDLE}{bar(feed.interval)}:{native}")
    if not feed.is_possible:
        raise LookupError(f"OKX has no {feed.data_type} of {native}, which is a {feed.instrument.market} market")
    route, name = _CHANNELS[feed.data_type]
    return Channel(route, f"{name}:{native}")
