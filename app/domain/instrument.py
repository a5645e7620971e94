"""What is traded on one exchange: its names outside and there, and how the exchange's amounts become coins."""

from enum import StrEnum
from typing import Final

import msgspec

from app.domain import exact
from app.domain.followed import Market as Market

QUANTITY_DECIMALS: Final = 12
"""Decimals of a quantity that is a quotient (an amount in USD by a price): finer than any exchange's own quantities."""


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
