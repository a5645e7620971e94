"""The audit of recorded absence: the exchange may have klines now for spans in which it once had none."""

from collections.abc import Iterable
from typing import Final

from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import GarbageDropped, Observe
from app.holding.commit import Committer
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.exchange import Priority, RestApi
from app.ports.store import StoreWriter
from app.verifying.audit import Tally

ABSENT_SPANS_MAX: Final = 50  # of one series in one audit, newest first; each costs a request of weight 1


class AbsenceAuditor:
    """Asks the exchange for one kline in each absent span, and withdraws the absence if there is one."""

    def __init__(
        self,
        clock: Clock,
        observe: Observe,
        rest: RestApi,
        store: StoreWriter,
        holdings: LedgerCache,
        committer: Committer,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._rest = rest
        self._store = store
        self._holdings = holdings
        self._committer = committer

    def due(self, series: Series, span: Span, verified_since_ms: int) -> Spans:
        """The absent spans in `span`, also before the first held row, without those verified since then."""
        if not self._holdings.is_anchored(series):
            return Spans()
        return self._holdings.ledger(series).absent.clip(span) - self._holdings.verification(series).since(
            verified_since_ms
        )

    async def audit(self, several: Iterable[Series], span: Span, verified_since_ms: int, tally: Tally) -> None:
        """Check the absent spans that are due, and count into `tally`; an error keeps what was done before it.

        Raises UpstreamError, StoreUnavailable.
        """
        for series in several:
            for absent in list(reversed(self.due(series, span, verified_since_ms)))[:ABSENT_SPANS_MAX]:
                await self._ask(series, absent, tally)

    async def _ask(self, series: Series, absent: Span, tally: Tally) -> None:
        began_ms = self._clock.now_ms()
        grid = self._holdings.grid(series)
        found = await self._rest.klines(series, grid, absent, 1, Priority.VERIFY)
        tally.compared += 1
        if not found:
            verification = await self._store.save_verified(series, Spans([absent]), began_ms)
            self._holdings.set_verification(series, verification)
            return
        tally.mismatched += 1
        recorded = self._holdings.ledger(series).absent.span_at(found[0].open_ms)
        if recorded is None:
            return  # the span was filled in the meantime
        what = f"{series.name} {series.interval}: {tuple(recorded)} was recorded absent, the exchange has klines there"
        tally.note(what)
        self._observe(GarbageDropped("absence", what))
        await self._committer.commit([Batch(series, Source.ABSENT, Spans([recorded]), [], withdraws=True)])
