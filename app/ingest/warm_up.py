"""Warm-up: fills the roll-up's buckets in progress from the store, after a start and after repairs."""

from typing import Final

from app.domain.interval import M1
from app.domain.series import Series
from app.holding.ledger_cache import LedgerCache
from app.holding.rolling import Rolling
from app.holding.symbol_sync import SymbolSync
from app.kinds.klines import KLINES
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.store import StoreReader

EVERY_S: Final = 2.0


class WarmUp:
    """Finds symbols that lack buckets of longer klines in progress, and supplies their minutes from the store."""

    def __init__(
        self, clock: Clock, store: StoreReader, symbols: SymbolSync, holdings: LedgerCache, rolling: Rolling
    ) -> None:
        self._clock = clock
        self._store = store
        self._symbols = symbols
        self._holdings = holdings
        self._rolling = rolling
        self.last_error: str | None = None

    async def run(self) -> None:
        """Warm up symbols that lack buckets, every `EVERY_S` seconds, forever."""
        while True:
            await self.once()
            await self._clock.sleep(EVERY_S)

    async def once(self) -> None:
        """Warm up every symbol whose minutes are known without a gap since its missing buckets began."""
        for symbol in self._symbols.wished:
            try:
                await self._warm(symbol)
            except StoreUnavailable as error:
                self.last_error = str(error)
                return

    async def _warm(self, symbol: str) -> None:
        series = Series(KLINES, symbol, M1)
        ledger = self._holdings.ledger(series)
        span = self._rolling.lacking(symbol, max((span.end_ms for span in ledger.held), default=0))
        if span and ledger.known.covers(span):  # otherwise the reconciler fetches them, or none is held yet
            snapshot = await self._store.read(series, span, M1.grid.count(*span))
            self._rolling.seed(symbol, snapshot.rows, span)
