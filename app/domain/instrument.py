"""What is traded on one exchange: its names outside and there, and how the exchange's amounts become coins."""

from enum import StrEnum
from typing import Final

import msgspec

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
