"""A symbol as the exchange lists it, and which symbols the node wishes to hold."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from app.domain.interval import DAY_MS
from app.domain.kline import Precision

PERPETUAL_DELIVERY_MS_MIN: Final = (
    4_000_000_000_000  # "far future": 2096; perpetuals say 2100-12-25, testnet a bit later
)


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

    def is_wished(self, quote_assets: Collection[str], now_ms: int, drop_ahead_ms: int = DAY_MS) -> bool:
        """Whether the node follows it: a trading perpetual in a wished quote asset, not about to be delivered.

        An announced delisting turns deliveryDate into the real time while the status is still TRADING; the symbol is
        dropped `drop_ahead_ms` before it.
        """
        return (
            self.contract_type == "PERPETUAL"
            and self.status == "TRADING"
            and self.quote_asset in quote_assets
            and (self.delivery_ms >= PERPETUAL_DELIVERY_MS_MIN or now_ms < self.delivery_ms - drop_ahead_ms)
        )
