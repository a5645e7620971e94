"""What a process keeps in memory: copies of what the store holds and of what the exchange lists."""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.holding.rolling import Rolling
from app.holding.symbol_sync import SymbolSync
from app.holding.tail import Tail

Drop = Callable[[Series, Span], None]
"""Forgets what was made of klines that open in the span, because they may have changed: pages, rows read ahead."""
Moved = Callable[[str], None]
"""Forgets what shows klines in progress of a name of series."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one process, and how to forget what was made of them."""

    symbols: SymbolSync
    ledgers: LedgerCache
    tail: Tail
    rolling: Rolling
    drop: Drop
    moved: Moved
