"""What is traded on one exchange: its names outside and there, and how the exchange's amounts become coins."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from app.domain import exact
from app.domain.followed import Market as Market

QUANTITY_DECIMALS: Final = 12
"""Decimals of a quantity that is a quotient (an amount in USD by a price): finer than any exchange's own quantities."""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ASSET: Final = re.compile(r"\w{1,32}")
"""An asset's name can stand in subjects and paths: letters of any script, digits, underscores."""


class Unit(StrEnum):
    """What the amounts of an exchange count."""

    COIN = "coin"
    CONTRACT = "contract"
    USD = "usd"


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """One row of an exchange's table of instruments.

    `symbol` is the name outside (`BTC-USDT`, dated futures `BTC-USDT-261225`), `native` the exchange's own.
    `contract_size` is exact decimal text: what one counted unit is worth, in base coins, or in the quote currency if
    `is_inverse` (the quantity then depends on the price). It is "1" where amounts are coins or USD.
    """

    exchange: str
    market: Market
    symbol: str
    native: str
    unit: Unit = Unit.COIN
    contract_size: str = "1"
    is_inverse: bool = False

    def quantity(self, amount: str, price: str) -> str:
        """The base coins of `amount` at `price`, exact; of inverse contracts with QUANTITY_DECIMALS, rounded half even.

        Both are plain decimals. What needs no arithmetic is returned as it is. Raises Unreadable for other texts, and
        for a price of zero where it is divided by.
        """
        if self.unit is Unit.COIN:
            return amount
        value = amount if self.contract_size == "1" else exact.product(amount, self.contract_size)
        return exact.quotient(value, price, QUANTITY_DECIMALS) if self.is_inverse else value


def pair(base: str, quote: str, expiry_ms: int | None = None) -> str | None:
    """The name outside of a pair of assets (`BTC-USDT`, with an expiry `BTC-USDT-261225`).

    None if a name cannot be one. `expiry_ms` must be within the range of datetime.
    """
    if _ASSET.fullmatch(base) is None or _ASSET.fullmatch(quote) is None:
        return None
    if expiry_ms is None:
        return f"{base}-{quote}"
    return f"{base}-{quote}-{_EPOCH + timedelta(milliseconds=expiry_ms):%y%m%d}"


def unambiguous(instruments: Sequence[Instrument]) -> list[Instrument]:
    """The instruments without those that share market and symbol with another: nobody could say which is meant."""
    names = Counter((instrument.market, instrument.symbol) for instrument in instruments)
    return [instrument for instrument in instruments if names[instrument.market, instrument.symbol] == 1]
