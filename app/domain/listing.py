"""The identity of a listing: which coin the klines held under a symbol belong to."""

from dataclasses import dataclass, replace
from typing import Self

from app.domain.kline import Precision
from app.domain.symbol import Symbol


@dataclass(frozen=True, slots=True)
class Listing:
    """The listing that owns the klines held under `symbol`, as exchangeInfo described it. Times in ms."""

    symbol: str
    onboard_ms: int
    delivery_ms: int
    precision: Precision
    since_ms: int = 0
    """The open time of its first minute if the symbol belonged to another listing before; otherwise 0."""
    is_doubted: bool = False
    """exchangeInfo describes another listing, and it has not been checked yet which one the held klines belong to."""

    @classmethod
    def of(cls, listed: Symbol, since_ms: int = 0) -> Self:
        """The listing that exchangeInfo describes now."""
        return cls(listed.name, listed.onboard_ms, listed.delivery_ms, listed.precision, since_ms)

    def doubted(self) -> Self:
        """A copy with `is_doubted` set."""
        return replace(self, is_doubted=True)

    def may_be_another(self, listed: Symbol, now_ms: int) -> bool:
        """Whether `listed` gives reason to check if the symbol is another coin now.

        exchangeInfo's dates are hints (binance-facts section 4): a later onboardDate may be a correction, an earlier
        one always is. Changed precisions, or trading after the delivery, are as suspicious. The exchange's klines
        decide.
        """
        is_revived = self.delivery_ms < now_ms < listed.delivery_ms and listed.is_begun
        return listed.onboard_ms > self.onboard_ms or listed.precision != self.precision or is_revived
