"""The families of klines: of trades, and of the mark price, the index price and the premium index.

A series of another family than trades is told apart by its symbol, which carries the family as the exchange's streams
do (`BTCUSDT@markPrice`). No symbol has an @, and no client meets such a series by a symbol: those are in upper case.
Their rows count samples and have no volumes; nobody has confirmed how the counts of longer ones add up, and sockets and
archive are not asked for them, so each interval comes from REST by itself.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """One family: its word in the settings, its suffix in symbols, and how REST is asked for it."""

    word: str
    suffix: str
    path: str
    parameter: str
    """What REST calls whose klines are wanted; the index price belongs to a pair (binance-facts section 2.1)."""
    is_signed: bool = False
    """Whether its prices may be negative."""

    def named(self, symbol: str) -> str:
        """The symbol of the family's series for a listed symbol, which may be a dated contract of a pair."""
        whose = symbol.partition("_")[0] if self.parameter == "pair" else symbol
        return f"{whose}@{self.suffix}" if self.suffix else whose


TRADES: Final = Family("trades", "", "/fapi/v1/klines", "symbol")
MARK: Final = Family("mark", "markPrice", "/fapi/v1/markPriceKlines", "symbol")
INDEX: Final = Family("index", "indexPrice", "/fapi/v1/indexPriceKlines", "pair")
PREMIUM: Final = Family("premium", "premiumIndex", "/fapi/v1/premiumIndexKlines", "symbol", is_signed=True)

PRICES: Final = {family.word: family for family in (MARK, INDEX, PREMIUM)}
"""The families of sampled prices, by their word in the settings."""
FAMILIES: Final = (TRADES, *PRICES.values())
_BY_SUFFIX: Final = {family.suffix: family for family in FAMILIES}


def parted(symbol: str) -> tuple[str, Family]:
    """Whose klines the series of a symbol are, and of which family."""
    whose, _, suffix = symbol.partition("@")
    return whose, _BY_SUFFIX[suffix]
