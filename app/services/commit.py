"""The one way into the store: what is committed reaches the ledger in memory, the tail and the cached pages."""

from collections.abc import Callable, Sequence

from app.domain.span import Span
from app.events import Observe, RowsCommitted
from app.ports import Batch, Committed, Series, StoreWriter
from app.services.holdings import Holdings
from app.services.tail import Tail

Drop = Callable[[Series, Span], None]
"""Told which open times of a series may have changed."""


class Committer:
    """Commits batches and tells everyone who keeps a copy."""

    def __init__(self, store: StoreWriter, holdings: Holdings, tail: Tail, drop: Drop, observe: Observe) -> None:
        self._store = store
        self._holdings = holdings
        self._tail = tail
        self._drop = drop
        self._observe = observe

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write `batches` in one transaction. Raises StoreUnavailable: then nothing was written and nothing changed."""
        results = await self._store.commit(batches)
        for batch, result in zip(batches, results, strict=True):
            self._holdings.set_ledger(batch.series, result.ledger)
            if not result.granted:
                continue
            granted = [kline for kline in batch.rows if result.granted.span_at(kline.open_ms)]
            self._tail.amend(batch.series, granted)
            spans = list(result.granted)
            touched = Span(spans[0].start_ms, spans[-1].end_ms)
            self._drop(batch.series, touched)
            self._observe(
                RowsCommitted(
                    batch.series.symbol, batch.series.interval.code, batch.source, len(granted), touched, result.revised
                )
            )
        return results

    async def save_anchor(self, symbol: str, open_ms: int) -> None:
        """Keep one open time of the symbol's 3d grid."""
        await self._store.save_anchor(symbol, open_ms)
        self._holdings.set_anchor(symbol, open_ms)
