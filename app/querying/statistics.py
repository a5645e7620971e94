"""Answers from held rows of kinds whose answers count from the end, such as metrics: the newest rows of a window.

An answer is made of known open times only: held, or proven absent. Where it needs another one, or where a newer row may
exist than the newest one held, the exchange is asked instead, and the rows of its answer are kept. Of times that the
exchange no longer has, the wish is all there is: an answer may end where it begins, and one that needs wished rows
which are not held yet is refused, because the exchange would leave them out without a word.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from app.binance.unreadable import UNREADABLE
from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.kline import BadKline
from app.domain.ledger import Ledger
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import ConfirmedClock
from app.ports.errors import UpstreamUnavailable
from app.ports.store import StoreReader
from app.querying.archived_rows import ByOrigin, Printed, archived_spans

NEWEST_MS: Final = 15_000  # how long an answer with the newest row holds: its rows come every five minutes
PAST_MS: Final = 60_000  # how long one without it does: a row may come late, or be replaced

Keep = Callable[[Series, Grid, Span, Sequence[Row]], Awaitable[None]]
"""Commits rows of an answer that cover a span, if they are wished and this process is the writer."""


class StatisticsQuery(NamedTuple):
    """A question: the newest `limit` rows whose stated times lie in `[start_ms, end_ms]`; None is no bound."""

    series: Series
    start_ms: int | None
    end_ms: int | None
    limit: int


class HeldAnswer(NamedTuple):
    """The body of an answer, for how many ms it holds, and which rows came from the archive ("" if none did)."""

    body: bytes
    fresh_ms: int
    archived: str = ""


class Statistics:
    """Answers questions about gathered kinds from the store."""

    def __init__(
        self,
        clock: ConfirmedClock,
        store: StoreReader,
        by_origin: ByOrigin,
        holdings: LedgerCache,
        wished: Callable[[Series], Spans],
        keep: Keep,
        is_current: Callable[[], bool],
        *,
        is_retention_strict: bool,
    ) -> None:
        """`wished`: the open times of a series that are to be held. `is_current`: whether the ledgers match the store.

        `is_retention_strict`: questions about times that the exchange no longer has are left to it.
        """
        self._clock = clock
        self._store = store
        self._by_origin = by_origin
        self._holdings = holdings
        self._wished = wished
        self._keep = keep
        self._is_current = is_current
        self._is_strict = is_retention_strict

    def keeps(self, series: Series) -> bool:
        """Whether rows of `series` are held, or wished."""
        return bool(self._holdings.ledger(series).known) or bool(self._wished(series))

    async def held(self, query: StatisticsQuery) -> HeldAnswer | None:
        """The answer from held rows; None when the exchange has to be asked.

        Raises StoreUnavailable, and UpstreamUnavailable for rows that nobody has at the moment.
        """
        series, pages = query.series, query.series.kind.rest
        if not (self._clock.is_trusted and self._is_current()) or series.symbol in self._holdings.doubted:
            return None
        now_ms, grid = self._clock.now_ms(), self._holdings.grid(series)
        lower_ms = 0 if query.start_ms is None else grid.ceil(max(0, query.start_ms - pages.stamp_ms))
        reach_ms = 0 if pages.reach_ms is None else now_ms - pages.reach_ms
        if self._is_strict and lower_ms < reach_ms:
            if query.start_ms is not None or (query.end_ms is not None and query.end_ms < reach_ms):
                return None
            lower_ms = grid.ceil(reach_ms)
        end_ms = newest_end_ms = grid.floor(now_ms)
        if query.end_ms is not None:
            end_ms = min(end_ms, grid.ceil(max(0, query.end_ms - pages.stamp_ms + 1)))
        if end_ms <= lower_ms and end_ms < reach_ms:
            return None  # the exchange refuses it
        ours = self._ours(series) if lower_ms < reach_ms else Spans()
        begin_ms = ours.hull.start_ms
        if query.start_ms is None and begin_ms < min(reach_ms, end_ms) and ours.covers(Span(begin_ms, end_ms)):
            lower_ms = max(lower_ms, begin_ms)  # nobody has more
        window = known_window(self._holdings.ledger(series), grid, query.limit, lower_ms, end_ms)
        if window is None:
            self._refuse_partial(query, ours.clip(Span(lower_ms, end_ms)), reach_ms)
            return None
        body, archived = await self._printed(query, grid, window)
        fresh_ms = NEWEST_MS if end_ms == newest_end_ms else PAST_MS
        return HeldAnswer(series.kind.finished(body, series.symbol), fresh_ms, archived)

    async def learn(self, query: StatisticsQuery, body: bytes) -> None:
        """Keep the rows of the exchange's answer to `query`."""
        series = query.series
        grid = self._holdings.grid(series)
        try:
            rows = series.kind.rest.decode(body, grid, series.symbol)
        except (BadKline, *UNREADABLE):
            return  # the client gets what the exchange has sent; nothing of it is kept
        if rows:
            await self._keep(series, grid, Span(rows[0].open_ms, grid.shift(rows[-1].open_ms, 1)), rows)

    async def _printed(self, query: StatisticsQuery, grid: Grid, window: Span) -> Printed:
        """The rows of `window`, at most `limit`. Without rows from the archive the store prints them itself."""
        ledger = self._holdings.ledger(query.series)
        if not archived_spans(ledger, window):
            found, body = await self._store.read_encoded(query.series, window, query.limit + 1, newest=True)
            if found == rows_held(ledger, grid, window):
                return Printed(body, "")  # no row has come since, from the archive for instance
        return await self._by_origin.printed(query.series, grid, window, query.limit)

    def _ours(self, series: Series) -> Spans:
        """The times that are known or wished."""
        return self._wished(series) | self._holdings.ledger(series).known

    def _refuse_partial(self, query: StatisticsQuery, ours: Spans, reach_ms: int) -> None:
        """Raise UpstreamUnavailable if the exchange's answer would lack wished rows that it no longer has.

        `ours`: the times of the question that are known or wished.
        """
        ledger, grid = self._holdings.ledger(query.series), self._holdings.grid(query.series)
        lacking = (ours - ledger.known).clip(Span(0, reach_ms))
        young = ours.clip(Span(grid.ceil(reach_ms), ours.hull.end_ms)) - ledger.absent
        if lacking and sum(grid.count(*span) for span in young) < query.limit:
            text = f"rows of {query.series} from {lacking.hull.start_ms} on are wished, and not held yet"
            raise UpstreamUnavailable(text, Reason.NOT_WHOLE)


def known_window(ledger: Ledger, grid: Grid, limit: int, lower_ms: int, end_ms: int) -> Span | None:
    """The shortest known span up to `end_ms` with `limit` rows, or down to `lower_ms`; None if some is unknown."""
    start_ms, lacking = lower_ms, limit
    for span in reversed(ledger.held.clip(Span(lower_ms, end_ms))):
        if (count := grid.count(*span)) >= lacking:
            start_ms = grid.shift(span.end_ms, -lacking)
            break
        lacking -= count
    window = Span(start_ms, max(start_ms, end_ms))
    return window if ledger.known.covers(window) else None


def rows_held(ledger: Ledger, grid: Grid, window: Span) -> int:
    """How many rows the ledger says are held of `window`."""
    return sum(grid.count(*span) for span in ledger.held.clip(window))
