"""The series: the unit of wish and ledger."""

from typing import NamedTuple

from app.binance.families import TRADES, parted
from app.domain.interval import Interval


class Series(NamedTuple):
    """A symbol and an interval: the unit of wish and ledger."""

    symbol: str
    interval: Interval

    @property
    def listed(self) -> str:
        """The name by which the exchange lists whose klines these are."""
        return parted(self.symbol)[0]

    @property
    def is_of_trades(self) -> bool:
        """Whether the klines are of trades: longer ones add up, and sockets and archive have them too."""
        return parted(self.symbol)[1] is TRADES
