"""The form of coin-margined contracts' names, which the exchange accepts but exchangeInfo does not list."""

import re
from typing import Final

_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}USD_(?:PERP|[0-9]{6})")
_PAIR: Final = re.compile(r"[A-Z0-9]{1,20}USD")


def is_symbol(name: str) -> bool:
    """Whether `name`, in upper case, has the form of a contract's symbol, such as BTCUSD_PERP."""
    return _SYMBOL.fullmatch(name) is not None


def is_pair(name: str) -> bool:
    """Whether `name`, in upper case, has the form of a pair, such as BTCUSD. Asset indexes have the same form."""
    return _PAIR.fullmatch(name) is not None
