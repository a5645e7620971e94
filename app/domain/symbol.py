"""A symbol as exchangeInfo lists it, and whether the node holds it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from app.domain.interval import DAY_MS, MINUTE_MS
from app.domain.kline import Precision

PERPETUAL_DELIVERY_MS_MIN: Final = (
    4_000_000_000_000  # "far future": 2096; perpetuals say 2100-12-25, testnet a bit later
)
SETTLED_MS_MAX: Final = 32 * DAY_MS
"""How long after a delivery the symbol's last klines are still fetched: the month of the delivery has closed then."""

CONTRACT_TYPES: Final = ("PERPETUAL", "TRADIFI_PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER")
"""The contract types that the node can follow; the quarterly ones expire."""

TRADING: Final = "TRADING"
_ENDING: Final = frozenset({"PRE_DELIVERING", "DELIVERING", "DELIVERED", "PRE_SETTLE", "SETTLING", "CLOSE"})
"""The statuses around a delivery (binance-facts section 4)."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """One entry of exchangeInfo, reduced to what the node acts on. Times in ms."""

    name: str
    contract_type: str
    quote_asset: str
    status: str
    onboard_ms: int
    delivery_ms: int
    precision: Precision

    @property
    def ends_ms(self) -> int | None:
        """The end (ms, exclusive) of its open times: after the minute of the delivery. None: no delivery is announced.

        The minute of the delivery still trades. An announced delisting sets deliveryDate while the status is still
        TRADING (binance-facts section 4).
        """
        if not 0 < self.delivery_ms < PERPETUAL_DELIVERY_MS_MIN:
            return None
        return self.delivery_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS

    def is_wished(self, quote_assets: Collection[str], contract_types: Collection[str], now_ms: int) -> bool:
        """Whether the node follows it: contract type and quote asset are wished, its last minute is not over."""
        if self.contract_type not in contract_types or self.quote_asset not in quote_assets:
            return False
        if (ends_ms := self.ends_ms) is None:
            return self.status == TRADING
        return self.is_begun and now_ms < ends_ms + MINUTE_MS  # a minute more for the last closing frame to arrive

    def is_settled(self, now_ms: int) -> bool:
        """Whether the symbol was delivered at most SETTLED_MS_MAX ago, so that its klines are completed to the end."""
        ends_ms = self.ends_ms
        return ends_ms is not None and self.is_begun and ends_ms <= now_ms < ends_ms + SETTLED_MS_MAX

    @property
    def is_begun(self) -> bool:
        """Whether the symbol trades or has traded."""
        return self.status == TRADING or self.status in _ENDING
