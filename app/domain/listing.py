"""Which coin a name stands for: the identity of a listing, as it was when what is held of the name was taken in."""

from dataclasses import dataclass, replace
from typing import Self

from app.domain.kline import Precision
from app.domain.symbol import Symbol


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing that was accepted as the owner of a name. Times in ms."""

    symbol: str
    onboard_ms: int
    delivery_ms: int
    precision: Precision
    since_ms: int = 0
    """Where its first minute opens when the name belonged to another listing before; 0 when it never did."""
    is_doubted: bool = False
    """The exchange's list describes another listing, and nobody has asked yet whose klines are held."""

    @classmethod
    def of(cls, listed: Symbol, since_ms: int = 0) -> Self:
        """The identity that the exchange's list gives a name now."""
        return cls(listed.name, listed.onboard_ms, listed.delivery_ms, listed.precision, since_ms)

    def doubted(self) -> Self:
        """The same, in doubt."""
        return replace(self, is_doubted=True)

    def may_be_another(self, listed: Symbol, now_ms: int) -> bool:
        """Whether the list gives reason to ask if the name is another coin now.

        The dates there are hints (binance-facts section 4): a later onboardDate may be a correction, an earlier one
        always is. Other precisions, or trade after the delivery, are as suspicious. The exchange's klines decide.
        """
        is_revived = self.delivery_ms < now_ms < listed.delivery_ms and listed.is_begun
        return listed.onboard_ms > self.onboard_ms or listed.precision != self.precision or is_revived
