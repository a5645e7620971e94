"""Names of coin-margined contracts: the exchange takes them since 2026-06-30, but exchangeInfo does not list them."""

import re
from typing import Final

_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}USD_(?:PERP|[0-9]{6})")
_PAIR: Final = re.compile(r"[A-Z0-9]{1,20}USD")


def is_symbol(name: str) -> bool:
    """Whether `name`, in upper case, has the form of a contract's."""
    return _SYMBOL.fullmatch(name) is not None


def is_pair(name: str) -> bool:
    """Whether `name`, in upper case, has the form of a pair's; those of asset indexes look alike."""
    return _PAIR.fullmatch(name) is not None
