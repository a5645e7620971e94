"""What the node holds (ledgers) and what it should hold (wish); the difference is missing."""

from collections.abc import Callable
from dataclasses import dataclass

from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish


@dataclass(frozen=True, slots=True)
class Inventory:
    """The ledgers, and a function that returns the current wish."""

    ledgers: LedgerCache
    wish: Callable[[], Wish]
