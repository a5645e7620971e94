"""The exact numbers of open interest, long-short ratios and taker volumes, which REST and archive print.

A row is about a period and is known at its end. Open interest and the three ratios are what is so at the end of the
period, taker volumes are sums over it. Open interest agrees with openInterest, and taker volumes with the klines.
"""

from typing import Final, NamedTuple

from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.market import Market
from infra.sandbox.marks import PLACES, Marks
from infra.sandbox.noise import chance
from infra.sandbox.universe import Instrument

PERIOD_MS: Final = 5 * MINUTE_MS  # of the archive's rows, and the shortest of REST
AMOUNT_PLACES: Final = 16  # decimals of exact open interest and value, as the archive prints them
RATIO_PLACES: Final = 8  # decimals of exact ratios, likewise
_ONE: Final = 10**RATIO_PLACES
_LONGS_LEAST: Final = 3 * _ONE // 10  # the share of long accounts or positions is 30 to 70 %
_LONGS_RANGE: Final = 4 * _ONE // 10 + 1
RATIOS: Final = {
    "topLongShortAccountRatio": "topAccounts",
    "topLongShortPositionRatio": "topPositions",
    "globalLongShortAccountRatio": "allAccounts",
}
"""By endpoint: the name from which the numbers of a ratio are drawn."""


class Interest(NamedTuple):
    """The open interest in coins and its value in the quote asset, both in units of 10^-16."""

    coins: int
    value: int


class Takers(NamedTuple):
    """The lots that takers bought and sold in a period, and bought ÷ sold in units of 10^-8 (0 if none were sold)."""

    bought: int
    sold: int
    ratio: int


class Statistics:
    """Pure functions of symbol and time."""

    def __init__(self, market: Market, marks: Marks) -> None:
        self._market, self._marks = market, marks

    def ends_ms(self, item: Instrument, size_ms: int, start_ms: int, end_ms: int) -> range:
        """The ends in [start_ms, end_ms] of the periods of `size_ms` in which the symbol traded, and no later ones."""
        if item.pending:
            return range(0)
        first = max(-(-start_ms // size_ms), item.onboard_ms // size_ms + 1)
        last = min(end_ms, item.delivery_ms) // size_ms
        return range(first * size_ms, (last + 1) * size_ms, size_ms)

    def interest(self, item: Instrument, end_ms: int) -> Interest:
        """The open interest at `end_ms`, valued at the mark price."""
        assert PLACES + item.quantity_precision <= AMOUNT_PLACES, f"{item.symbol} has too fine lots"
        lots = self._marks.open_interest(item, end_ms)
        value = lots * self._marks.mark(item, end_ms)
        return Interest(
            lots * _ten_to(AMOUNT_PLACES - item.quantity_precision),
            value * _ten_to(AMOUNT_PLACES - PLACES - item.quantity_precision),
        )

    def ratio(self, item: Instrument, endpoint: str, end_ms: int) -> int:
        """Long ÷ short of an endpoint in `RATIOS` at `end_ms`, in units of 10^-8."""
        longs = _LONGS_LEAST + chance(f"{item.uid}/{RATIOS[endpoint]}/{end_ms}") % _LONGS_RANGE
        return longs * _ONE // (_ONE - longs)

    def takers(self, item: Instrument, start_ms: int, end_ms: int) -> Takers:
        """The taker volumes of [start_ms, end_ms)."""
        parts = list(self._market.between(item, start_ms, end_ms))
        bought = sum(part.taker_volume for part in parts)
        sold = sum(part.volume for part in parts) - bought
        return Takers(bought, sold, bought * _ONE // sold if sold else 0)


def shares(ratio: int, places: int, *, cut: bool) -> tuple[int, int]:
    """The long and the short share of a ratio of 10^-8, in units of 10^-`places`, which together are exactly 1."""
    one = _ten_to(places)
    longs = quotient(ratio * one, _ONE + ratio, cut=cut)
    return longs, one - longs


def shortened(units: int, places: int, to_places: int, *, cut: bool) -> int:
    """`units` of 10^-`places` in units of 10^-`to_places`, fewer of them, rounded half up or cut."""
    assert to_places <= places, "digits cannot be added"
    return quotient(units, _ten_to(places - to_places), cut=cut)


def quotient(units: int, divisor: int, *, cut: bool) -> int:
    """`units` ÷ `divisor`, neither of them negative, as a whole number: rounded half up, or cut."""
    return units // divisor if cut else (2 * units + divisor) // (2 * divisor)


def _ten_to(places: int) -> int:
    return int("1" + "0" * places)
