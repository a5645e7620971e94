"""The names of Deribit's channels and resolutions: which of them bring a feed."""

from typing import Final

from app.domain.records import DataType, Feed
from app.domain.venue import Channel

ROUTE: Final = "/ws/api/v2"
TRADES: Final = "trades"
BOOK: Final = "book"
TICKER: Final = "ticker"
CHART: Final = "chart"
PACE: Final = ".100ms"
"""`raw` needs an account."""

_RESOLUTIONS: Final = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "1h": "60",
    "2h": "120",
    "6h": "360",
    "12h": "720",
    "1d": "1D",
}
INTERVALS: Final = {resolution: interval for interval, resolution in _RESOLUTIONS.items()}
"""Intervals by resolution."""

_CHANNELS: Final = {
    DataType.TRADE: TRADES,
    DataType.ORDERBOOK: BOOK,
    DataType.TICKER: TICKER,
    DataType.FUNDING_RATE: TICKER,
    DataType.OPEN_INTEREST: TICKER,
}
"""A ticker also tells the funding rate and the open interest, so that one channel serves three feeds."""


def resolution(interval: str) -> str:
    """Deribit's name of an interval. Raises LookupError for one that it does not offer."""
    found = _RESOLUTIONS.get(interval)
    if found is None:
        raise LookupError(f"Deribit has no klines of {interval!r}; choose one of {', '.join(_RESOLUTIONS)}")
    return found


def channel(feed: Feed) -> Channel:
    """The channel that brings `feed`. Raises LookupError if there is none."""
    native = feed.instrument.native
    if feed.data_type is DataType.KLINE:
        return Channel(ROUTE, f"chart.trades.{native}.{resolution(feed.interval)}")
    if not feed.is_possible:
        raise LookupError(f"Deribit has no {feed.data_type} of {native}, which is a {feed.instrument.market} market")
    return Channel(ROUTE, f"{_CHANNELS[feed.data_type]}.{native}{PACE}")


def split(name: str) -> tuple[str, str, str]:
    """What a channel brings, of which instrument, and its resolution or pace; "" for what is not known."""
    parts = name.split(".")
    if parts[:2] == ["chart", "trades"] and len(parts) == 4:
        return CHART, parts[2], parts[3]
    if len(parts) == 3 and parts[0] in (TRADES, BOOK, TICKER):
        return parts[0], parts[1], parts[2]
    return "", "", ""
