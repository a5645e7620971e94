"""The weight of requests by their limit, as documented (binance-facts sections 2 and 3); measured is never more."""

from typing import Final

_DEPTH: Final = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}


def klines_weight(limit: int) -> int:
    """The weight of a request for `limit` klines of any kind."""
    if limit < 100:
        return 1
    if limit < 500:
        return 2
    return 5 if limit <= 1_000 else 10


def depth_weight(limit: int) -> int:
    """The weight of a request for the best `limit` levels of an order book."""
    return _DEPTH[limit]


def depth_limits() -> tuple[int, ...]:
    """The numbers of order book levels that the exchange offers."""
    return tuple(_DEPTH)
