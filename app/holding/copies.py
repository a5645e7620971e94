"""The copies in a process's memory: of what the store holds and of what the exchange lists."""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.series import Series
from app.domain.span import Span
from app.holding.ledger_cache import LedgerCache
from app.holding.rolling import Rolling
from app.holding.symbol_sync import SymbolSync
from app.holding.tail import Tail

Drop = Callable[[Series, Span], None]
"""Invalidates pages and rows read ahead that contain klines opening in the span: these klines may have changed."""
Moved = Callable[[str], None]
"""Invalidates cached answers that show klines in progress, for all series of one name."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one process, and the callbacks that invalidate what was derived from them."""

    symbols: SymbolSync
    ledgers: LedgerCache
    tail: Tail
    rolling: Rolling
    drop: Drop
    moved: Moved
