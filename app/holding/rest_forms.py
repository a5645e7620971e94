"""What was learned about REST's form of archive rows, by symbol: read from the store when it is needed.

The process that writes learns (app/filling/joining.py) and knows at once. Others read the document again at most every
LOOK_MS, so that their answers may have digits by an earlier rule for that long, and the cached ones for as long as they
hold, a minute more. What an earlier rule has printed is dropped as soon as a process knows the new one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.binance.rest_form import SymbolDigits, digits_of_json
from app.domain.interval import MINUTE_MS
from app.domain.validity import is_fresh
from app.events import GarbageDropped, Observe
from app.ports.clock import Clock
from app.ports.store import StoreReader

LOOK_MS: Final = MINUTE_MS
NOTHING: Final = SymbolDigits()


def document_name(symbol: str) -> str:
    """The name of the stored document about a symbol."""
    return f"digits/{symbol}"


async def stored_digits(store: StoreReader, symbol: str, observe: Observe) -> SymbolDigits:
    """What the store has about a symbol; nothing where its document cannot be read. Raises StoreUnavailable."""
    document = await store.document(document_name(symbol))
    if document is None:
        return NOTHING
    try:
        return digits_of_json(document[0])
    except ValueError as error:  # it is learned again
        observe(GarbageDropped(document_name(symbol), str(error)))
        return NOTHING


@dataclass(frozen=True, slots=True)
class _Known:
    digits: SymbolDigits
    looked_ms: int


class RestForms:
    """The copies of this process."""

    def __init__(self, clock: Clock, store: StoreReader, observe: Observe, changed: Callable[[str], None]) -> None:
        """`changed` drops the answers about a symbol that were printed by an earlier rule."""
        self._clock = clock
        self._store = store
        self._observe = observe
        self._changed = changed
        self._known: dict[str, _Known] = {}

    async def of(self, symbol: str) -> SymbolDigits:
        """What was learned about `symbol`. Raises StoreUnavailable."""
        known = self._known.get(symbol)
        if known is None or not is_fresh(known.looked_ms, self._clock.now_ms(), LOOK_MS):
            digits = await stored_digits(self._store, symbol, self._observe)
            if self._known.get(symbol) is known:  # otherwise it has become known meanwhile, or all was forgotten
                self.keep(symbol, digits)
            known = self._known.get(symbol)
            return digits if known is None else known.digits
        return known.digits

    def keep(self, symbol: str, digits: SymbolDigits) -> None:
        """Take over what the store has now."""
        known = self._known.get(symbol)
        self._known[symbol] = _Known(digits, self._clock.now_ms())
        if known is not None and not known.digits.prints_as(digits):
            self._changed(symbol)

    def clear(self) -> None:
        """Forget everything: the store may be another one."""
        self._known.clear()
