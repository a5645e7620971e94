"""Pages of events: what is asked for of sparse series (`Kind.is_sparse`), and what of an answer is kept.

A request costs the same whatever it spans. So one for the newest events spans as many steps of the grid as a page can
have events, and brings those that came late, or were corrected, in the weeks before. One for older events spans as much
as their rhythm lets fit on a page; what does not fit is asked for next.
"""

from collections.abc import Collection

from app.domain.columns import Columns
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.rhythm import Rhythm, page_steps, proven
from app.holding.commit import Committer
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.ports.clock import Clock
from app.ports.exchange import Priority, RowPages


class EventPages:
    """Fetches pages of events. Only the process that writes has one."""

    def __init__(self, clock: Clock, rest: RowPages, committer: Committer, inventory: Inventory) -> None:
        self._clock = clock
        self._rest = rest
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._rhythms: dict[Series, Rhythm] = {}

    def newest(self, wish: Wish, series: Series, end_ms: int) -> Span:
        """The span of a request for the newest events before `end_ms`, which is on the grid."""
        steps = page_steps(series.kind, self._holdings.grid(series), None)
        return self._from(wish, series, self._holdings.grid(series).shift(end_ms, -steps), end_ms)

    def older(self, wish: Wish, series: Series, wanted: Spans) -> Span:
        """The span of a request for the newest of `wanted`, and for all others that fit on its page."""
        grid, end_ms = self._holdings.grid(series), wanted.hull.end_ms
        steps = page_steps(series.kind, grid, self._rhythms.get(series))
        hull = wanted.clip(Span(grid.shift(end_ms, -steps), end_ms)).hull
        return self._from(wish, series, *hull)

    def is_due(self, series: Series, end_ms: int) -> bool:
        """Whether the rhythm of `series` lets expect an event before `end_ms` that was not there last time."""
        rhythm = self._rhythms.get(series)
        return rhythm is not None and rhythm.is_due(end_ms)

    def forget(self, gone: Collection[Series]) -> None:
        """Forget series that are no longer wished."""
        for series in gone:
            self._rhythms.pop(series, None)

    async def fetch(self, series: Series, span: Span, priority: Priority, *, is_newest: bool) -> Span:
        """Fetch the events of `span` and commit them; returns the part of it that is known now.

        Raises UpstreamError, BadKline, StoreUnavailable.
        """
        grid, rows_max = self._holdings.grid(series), series.kind.rest.rows_max
        rows = Columns.of(await self._rest.klines(series, grid, span, rows_max, priority))
        known = proven(rows, span, grid, rows_max)
        if is_newest and (rhythm := Rhythm.of(rows, grid)) is not None:
            self._rhythms[series] = rhythm
            known = rhythm.trusted(known, grid, self._clock.now_ms())
        await self._committer.commit(self._batches(series, known, rows.between(*known)))
        return known

    def _batches(self, series: Series, known: Span, rows: Columns) -> list[Batch]:
        """What is known of `known`: before the first event ever there is nothing."""
        grid, begin_ms = self._holdings.grid(series), known.start_ms
        batches = []
        if not begin_ms:
            begin_ms = min(known.end_ms, grid.floor(rows.opens_ms[0] if rows else self._wish().hint_ms(series)))
            absent = Spans([Span(0, begin_ms)]) - self._holdings.ledger(series).known
            batches.append(Batch(series, Source.ABSENT, absent, []))
        batches.append(Batch(series, Source.REST, Spans([Span(begin_ms, known.end_ms)]), rows))
        return batches

    def _from(self, wish: Wish, series: Series, start_ms: int, end_ms: int) -> Span:
        """From `start_ms`, or from the begin if the listing is not older, so that it is known where events begin."""
        since_ms = self._holdings.grid(series).floor(self._holdings.since_ms.get(series.symbol, 0))
        begin_ms = since_ms if start_ms <= wish.hint_ms(series) else start_ms
        return Span(max(since_ms, begin_ms), end_ms)
