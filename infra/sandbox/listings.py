"""The instruments of OKX and Deribit, whose prices follow the coins of the universe."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from infra.sandbox.grid import utc, utc_ms
from infra.sandbox.render import trimmed
from infra.sandbox.universe import NEVER_MS, Instrument, quarter_end_ms

SPOT: Final = "SPOT"
SWAP: Final = "SWAP"
FUTURES: Final = "FUTURES"
COIN_PLACES: Final = 8  # decimals of coins that are computed from dollars
LISTED_MS: Final = utc_ms(2025, 1)
_RATE_MAX: Final = 100_000  # trades a second; numbers of trades stay below 2^53


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """One instrument of a venue. Its sizes are lots × `size_lot`, with `size_places` decimals; times in ms.

    Linear contracts and spot have lots of coins. The lots of inverse contracts are dollars.
    """

    name: str
    kind: str
    item: Instrument
    base: str
    quote: str
    settle: str
    size_places: int
    size_lot: int = 1
    contract: str = ""
    """The value of a contract in coins, or in dollars of an inverse one; "" for spot."""

    @property
    def is_inverse(self) -> bool:
        """Whether sizes are worth dollars instead of coins."""
        return self.item.lot_usd > 0

    def price(self, units: int) -> str:
        """A price, without trailing zeros."""
        return trimmed(units, self.item.price_precision)

    def size(self, lots: int) -> str:
        """The venue's size of so many lots, without trailing zeros."""
        return trimmed(lots * self.size_lot, self.size_places)

    def coins(self, lots: int, price: int) -> int:
        """The coins in units of 10^-8 that so many lots are at a price, rounded down."""
        if not self.is_inverse:
            return lots * _ten_to(COIN_PLACES - self.item.quantity_precision)
        return lots * self.item.lot_usd * _ten_to(COIN_PLACES + self.item.price_precision) // price


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    settle: str
    price: tuple[int, int, int]
    """Decimals of prices, tick in units of them, and the base price in ticks."""
    lots: tuple[int, int, int]
    """Decimals of lots as coins, decimals of sizes, and trades a minute."""
    contract: str = ""
    lot_usd: int = 0
    size_lot: int = 1


_BTC: Final = (1, 1, 1_000_000)
_OKX: Final = (
    _Row("BTC-USDT", SPOT, "", _BTC, (8, 8, 600)),
    _Row("ETH-USDT", SPOT, "", (2, 1, 350_000), (6, 6, 450)),
    _Row("BTC-USDT-SWAP", SWAP, "USDT", _BTC, (4, 2, 1_200), "0.01"),
    _Row("ETH-USDT-SWAP", SWAP, "USDT", (2, 1, 350_000), (3, 2, 900), "0.1"),
    _Row("SOL-USDT-SWAP", SWAP, "USDT", (2, 1, 18_000), (2, 2, 600), "1"),
    _Row("BTC-USD-SWAP", SWAP, "BTC", _BTC, (0, 0, 300), "100", lot_usd=100),
    _Row("BTC-USDT-", FUTURES, "USDT", (1, 1, 1_010_000), (4, 2, 300), "0.01"),
)
_DERIBIT: Final = (
    _Row("BTC-PERPETUAL", SWAP, "BTC", (1, 5, 200_000), (0, 0, 600), "10", lot_usd=10, size_lot=10),
    _Row("ETH-PERPETUAL", SWAP, "ETH", (2, 5, 70_000), (0, 0, 400), "1", lot_usd=1),
    _Row("BTC_USDC-PERPETUAL", SWAP, "USDC", (1, 5, 200_000), (4, 4, 300), "0.0001"),
    _Row("BTC-", FUTURES, "BTC", (1, 5, 202_000), (0, 0, 300), "10", lot_usd=10, size_lot=10),
)


class Listings:
    """The instruments of one venue at any time."""

    def __init__(self, venue: str, seed: int, rate: float | None = None) -> None:
        assert rate is None or 0 < rate <= _RATE_MAX, f"a rate is above 0 and at most {_RATE_MAX} trades a second"
        self._venue, self._seed, self._rate = venue, seed, rate
        rows = _OKX if venue == "okx" else _DERIBIT
        self._fixed = tuple(self._listing(row, row.name, NEVER_MS) for row in rows if row.kind != FUTURES)
        self._dated = tuple(row for row in rows if row.kind == FUTURES)
        self._quarters: dict[int, tuple[Listing, ...]] = {}

    def at(self, now_ms: int) -> tuple[Listing, ...]:
        """All instruments at `now_ms`: the lasting ones, and the futures of the current quarter."""
        ends_ms = quarter_end_ms(now_ms)
        if ends_ms not in self._quarters:
            dated = tuple(self._listing(row, row.name + self._suffix(ends_ms), ends_ms) for row in self._dated)
            self._quarters[ends_ms] = self._fixed + dated
        return self._quarters[ends_ms]

    def find(self, name: str, now_ms: int) -> Listing | None:
        """The instrument called `name`; None if there is none at `now_ms`."""
        return next((each for each in self.at(now_ms) if each.name == name), None)

    def matching(self, name: str, now_ms: int) -> Iterator[Listing]:
        """The instruments called `name`, or all if it is empty."""
        return (each for each in self.at(now_ms) if name in ("", each.name))

    def _suffix(self, ends_ms: int) -> str:
        when = utc(ends_ms)
        return f"{when:%y%m%d}" if self._venue == "okx" else f"{when.day}{_MONTHS[when.month - 1]}{when:%y}"

    def _listing(self, row: _Row, name: str, ends_ms: int) -> Listing:
        pair = name.split("-")
        base, _, of_name = pair[0].partition("_")
        quote = (pair[1] if row.kind == SPOT or self._venue == "okx" else of_name) or "USD"
        (precision, tick, ticks), (places, size_places, trades) = row.price, row.lots
        item = Instrument(
            symbol=name,
            base_asset=base,
            uid=f"{self._seed}:{self._venue}:{name}",
            price_precision=precision,
            quantity_precision=places,
            tick_units=tick,
            base_ticks=ticks,
            trades_a_minute=trades if self._rate is None else max(1, int(self._rate * 60)),
            empty_of_1024=0,
            onboard_ms=LISTED_MS,
            delivery_ms=ends_ms,
            contract_type="PERPETUAL" if row.kind == SWAP else row.kind,
            quote_asset=quote,
            follows=f"{self._seed}:{base}USDT",
            lot_usd=row.lot_usd,
        )
        return Listing(name, row.kind, item, base, quote, row.settle, size_places, row.size_lot, row.contract)


_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@lru_cache(maxsize=32)
def _ten_to(places: int) -> int:
    return int("1" + "0" * places)
