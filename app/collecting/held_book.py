"""A held book as the exchange would answer it: the best levels of both sides, their prices as they are printed."""

from collections.abc import Sequence
from typing import NamedTuple

from app.collecting.book import EVERYWHERE, Side, decimals_of
from app.collecting.book_chain import BookChain


class BestLevels(NamedTuple):
    """The state after the exchange's frame `sequence`, which it sent at `sent_ms`; the best levels come first."""

    sequence: int
    sent_ms: int
    timestamp_ms: int
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]


def best_levels(chain: BookChain, limit: int) -> BestLevels | None:
    """The best `limit` levels of both sides, fewer where the exchange has no more; None: they are not all known.

    A side is known inside its window only, which ends where the snapshot ended. The exchange prints all prices of a
    symbol with the same decimals, so those of the newest frame are the decimals of all. None also while a level has
    more: the decimals were changed.
    """
    bids, asks = _best(chain.book.bids, limit), _best(chain.book.asks, limit)
    if bids is None or asks is None:
        return None
    decimals = decimals_of(chain.price)
    if any(decimals_of(price) > decimals for price, _ in (*bids, *asks)):
        return None
    return BestLevels(chain.last, chain.sent_ms, chain.timestamp_ms, _printed(bids, decimals), _printed(asks, decimals))


def _best(side: Side, limit: int) -> Sequence[tuple[str, str]] | None:
    if side.window is not EVERYWHERE and len(side.amounts) < limit:
        return None
    return side.sorted()[:limit]


def _printed(levels: Sequence[tuple[str, str]], decimals: int) -> list[tuple[str, str]]:
    if not decimals:
        return list(levels)
    return [
        (price + "0" * (decimals - len(fraction)) if dot else f"{price}.{'0' * decimals}", amount)
        for price, amount in levels
        for _, dot, fraction in (price.partition("."),)
    ]
