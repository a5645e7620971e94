"""What the node holds and what it should hold; the difference is what is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish


@dataclass(frozen=True, slots=True)
class Inventory:
    """The ledgers, and the wish at this moment."""

    ledgers: LedgerCache
    wish: Callable[[], Wish]
