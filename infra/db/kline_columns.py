"""What the columns and the tables of klines are called in the database.

Apart from the schema because processes that unpack need no more of it, and SQLAlchemy takes longer to import than a
month of 1m takes to unpack.
"""

from typing import Final

from app.domain.interval import Interval

ROW_COLUMNS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
"""The columns of a kline in the order of app.domain.kline.Kline."""

INTEGER_COLUMNS: Final = frozenset({"open_time", "trades"})


def kline_table(interval: Interval) -> str:
    """The name of the table that keeps the klines of `interval`."""
    return f"kline_{interval.slug}"
