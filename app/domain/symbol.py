"""A symbol as the exchange lists it, and which symbols the node wishes to hold."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from app.domain.interval import DAY_MS, MINUTE_MS
from app.domain.kline import Precision

PERPETUAL_DELIVERY_MS_MIN: Final = (
    4_000_000_000_000  # "far future": 2096; perpetuals say 2100-12-25, testnet a bit later
)
SETTLED_MS_MAX: Final = 32 * DAY_MS
"""For so long after a delivery its last klines are completed: the month it falls into has closed by then."""

CONTRACT_TYPES: Final = ("PERPETUAL", "TRADIFI_PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER")
"""What can be followed; quarterlies expire."""

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
        """Where its open times end: after the minute of the delivery, which still trades. None: no delivery is known.

        An announced delisting turns deliveryDate into the real time while the status is still TRADING.
        """
        if not 0 < self.delivery_ms < PERPETUAL_DELIVERY_MS_MIN:
            return None
        return self.delivery_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS

    def is_wished(self, quote_assets: Collection[str], contract_types: Collection[str], now_ms: int) -> bool:
        """Whether the node follows it: a contract of a wished type and quote asset, until its last minute closed."""
        if self.contract_type not in contract_types or self.quote_asset not in quote_assets:
            return False
        if (ends_ms := self.ends_ms) is None:
            return self.status == TRADING
        return self.is_begun and now_ms < ends_ms + MINUTE_MS  # a minute more for the closing frame of the last one

    def is_settled(self, now_ms: int) -> bool:
        """Whether it was delivered lately: what is held of it is completed up to its last minute."""
        ends_ms = self.ends_ms
        return ends_ms is not None and self.is_begun and ends_ms <= now_ms < ends_ms + SETTLED_MS_MAX

    @property
    def is_begun(self) -> bool:
        """Whether it trades or has traded."""
        return self.status == TRADING or self.status in _ENDING
