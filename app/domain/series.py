"""The series, which wish and ledger are kept by: one kind, symbol and interval."""

from typing import NamedTuple

from app.domain.interval import Interval
from app.domain.kind import Kind


class Series(NamedTuple):
    """The rows of one kind, symbol and interval.

    `symbol` is as the exchange lists it, or a pair where rows of the kind belong to pairs.
    """

    kind: Kind
    symbol: str
    interval: Interval

    @property
    def name(self) -> str:
        """Symbol and kind as one text: `BTCUSDT`, `BTCUSDT@markPrice`. A symbol never contains @."""
        return f"{self.symbol}@{self.kind.suffix}" if self.kind.suffix else self.symbol

    @property
    def table(self) -> tuple[Kind, Interval]:
        """Kind and interval: all series that share them are stored in one table."""
        return self.kind, self.interval

    def __str__(self) -> str:
        return f"{self.name} {self.interval}"

    def of(self, interval: Interval) -> "Series":
        """The series of the same kind and symbol with `interval`."""
        return Series(self.kind, self.symbol, interval)
