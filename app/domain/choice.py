"""What people wish to follow, as they write it: types of data, symbols, and a choice of both."""

import re
from typing import Final, NamedTuple

from app.domain import letters
from app.domain.followed import DataType, Market
from app.domain.interval import INTERVALS

VENUES: Final = ("binance", "okx", "deribit")
"""The exchanges that a collector can follow."""
MARKETS_BY_DEFAULT: Final = (Market.SWAP, Market.SPOT, Market.FUTURE)
"""Which market is meant where none is named: the first of these that the symbol has."""
DERIVATIVES_ONLY: Final = frozenset({DataType.FUNDING_RATE, DataType.OPEN_INTEREST})
TYPES_HELP: Final = "trade, orderbook, ticker, funding_rate, open_interest, kline.1m (or another interval)"
TEXT_CHARS_MAX: Final = 64  # of a symbol or a type; the longest native name that an exchange lists has 30
_SYMBOL: Final = re.compile(r"\w[\w.-]*")


class FeedType(NamedTuple):
    """A type of data; `interval` is "" for all but klines."""

    data_type: DataType
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.data_type}.{self.interval}" if self.interval else str(self.data_type)


class Choice(NamedTuple):
    """Types to follow of a symbol; `market` None: of MARKETS_BY_DEFAULT.

    `is_own`: the symbol was named for this exchange alone, so that it must be there. Otherwise an exchange that lacks
    the symbol is no fault as long as another one lists it.
    """

    symbol: str
    market: Market | None
    types: tuple[FeedType, ...]
    is_own: bool


def parse_type(text: str) -> FeedType:
    """A type as it is written: `trade`, `kline.1m`. Raises ValueError, which says what there is."""
    name, dot, interval = text.strip().partition(".")
    if name not in list(DataType):
        raise ValueError(f"{text[:TEXT_CHARS_MAX]!r} is no type of data; there are {TYPES_HELP}")
    data_type = DataType(name)
    if data_type is DataType.KLINE:
        if interval not in INTERVALS:
            wanted = f"{interval[:TEXT_CHARS_MAX]!r} is no interval of klines" if dot else "kline needs an interval"
            raise ValueError(f"{wanted}; write kline.1m, or another of {', '.join(INTERVALS)}")
    elif dot:
        raise ValueError(f"{text[:TEXT_CHARS_MAX]!r}: {name} has no interval; write {name}")
    return FeedType(data_type, interval)


def parse_symbol(text: str) -> str:
    """A symbol as it is written, in upper case: `BTC-USDT`. Raises ValueError for what cannot be one."""
    symbol = letters.upper(text.strip())
    if len(symbol) > TEXT_CHARS_MAX or not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"{text[:TEXT_CHARS_MAX]!r} is no symbol; write it as BTC-USDT, or BTC-USDT-261225")
    return symbol


def parse_market(text: str) -> Market:
    """A market as it is written. Raises ValueError, which says what there is."""
    if text.strip() not in list(Market):
        raise ValueError(f"{text[:TEXT_CHARS_MAX]!r} is no market; there are {', '.join(Market)}")
    return Market(text.strip())
