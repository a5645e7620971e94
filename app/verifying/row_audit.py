"""The audit of every held row of a symbol against the exchange's rows of the same interval.

The sums of a day say nothing of a wrong open or close inside of it, nor of wrong rows that cancel out; this comparison
finds them, at the price of a REST page for 499 rows. Longer intervals come first: then a row that was rolled up from a
wrong minute is compared too, before the repair of the minute deletes it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from app.domain.interval import DAY_MS, M1
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage
from app.verifying.audit import Auditor, Tally

PAGE_TRIES_MAX: Final = 3  # answers that lack held rows until a page is left out: the exchange may lack them for good


class RowAudit:
    """One comparison of all rows of a symbol; it remembers its own pages, whatever else was verified meanwhile."""

    def __init__(
        self, clock: Clock, auditor: Auditor, holdings: LedgerCache, series: Sequence[Series], span: Span
    ) -> None:
        self._clock = clock
        self._auditor = auditor
        self._holdings = holdings
        self._series = sorted(series, key=_step_ms, reverse=True)
        self._span = span
        self._compared: dict[Series, Spans] = {}
        self._replaced: dict[Series, list[Span]] = {}
        self._tries: Counter[tuple[Series, Span]] = Counter()
        self.left_out: list[tuple[Series, Span, str]] = []
        """The pages that could not be compared, each with the reason."""

    def due(self, series: Series) -> Spans:
        """The held rows of a series that are still to be compared."""
        return self._auditor.held_rows(series, self._span) - self._settled(series)

    async def run(self, tally: Tally) -> None:
        """Compare what is due. After an error, the next call goes on at the page that failed.

        Raises UpstreamError, StoreUnavailable.
        """
        for series in self._series:
            await self._compare(series, self.due(series), tally)
        for series in self._series:
            if series.kind.rolls_up and M1.grid.step_ms < _step_ms(series) <= DAY_MS:
                await self._confront(series, tally)
        for series in self._series:
            await self._restore(series)

    async def _compare(self, series: Series, spans: Spans, tally: Tally) -> None:
        """Compare `spans` page by page. A page whose answer lacks held rows is tried again after all others."""
        began_ms = self._clock.now_ms()  # one time for many pages: their checks are stored as one
        garbage: UpstreamGarbage | None = None
        for page in self._auditor.pages(series, spans):
            try:
                replaced = await self._auditor.audit_page(series, page, began_ms, tally)
            except UpstreamGarbage as error:
                self._tries[series, page] += 1
                if self._tries[series, page] < PAGE_TRIES_MAX:
                    garbage = error
                else:
                    self.left_out.append((series, page, str(error)))
                continue
            self._compared[series] = self._compared.get(series, Spans()) | Spans([page])
            if replaced:
                self._replaced.setdefault(series, []).extend(replaced)
                began_ms = self._clock.now_ms()
        if garbage is not None:
            raise garbage

    async def _confront(self, series: Series, tally: Tally) -> None:
        """Record what the exchange contradicts: replaced longer rows that their minutes, compared as well, do not make.

        Minutes that nobody asked for are compared where they are held.
        """
        minutes, grid = series.of(M1), self._holdings.grid(series)
        replaced = Spans(self._replaced.get(series, ()))
        held = Spans(part for span in replaced for part in self._auditor.held_rows(minutes, span))
        await self._compare(minutes, held - self._settled(minutes), tally)
        known = self._compared.get(minutes, Spans()) | self._holdings.ledger(minutes).absent
        for span in replaced:
            for open_ms in grid.opens(*span):
                if known.covers(Span(open_ms, grid.shift(open_ms, 1))):
                    await self._auditor.confront(series, open_ms, tally)

    async def _restore(self, series: Series) -> None:
        """Fetch the compared rows again that were deleted because rows they were rolled up from have been replaced."""
        grid = self._holdings.grid(series)
        shorter = Spans(
            Span(grid.floor(start_ms), grid.ceil(end_ms))
            for other, spans in self._replaced.items()
            if other == series.of(other.interval) and _step_ms(other) < _step_ms(series)
            for start_ms, end_ms in spans
        )
        for span in shorter & self._compared.get(series, Spans()):
            await self._auditor.hold_again(series, span)

    def _settled(self, series: Series) -> Spans:
        """The rows of a series that were compared or are left out."""
        given_up: Iterable[Span] = (span for other, span, _ in self.left_out if other == series)
        return self._compared.get(series, Spans()) | Spans(given_up)


def _step_ms(series: Series) -> int:
    return series.interval.grid.step_ms
