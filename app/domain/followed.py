"""The words for what can be followed: markets and types of data."""

from enum import StrEnum


class Market(StrEnum):
    """The kind of market; spot and swap of one pair share a symbol."""

    SPOT = "spot"
    SWAP = "swap"
    FUTURE = "future"


class DataType(StrEnum):
    """What can be followed of an instrument."""

    TRADE = "trade"
    ORDERBOOK = "orderbook"
    KLINE = "kline"
    TICKER = "ticker"
    FUNDING_RATE = "funding_rate"
    OPEN_INTEREST = "open_interest"
