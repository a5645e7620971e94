"""Read-through: sends identical requests to the exchange once, and refuses answers that lack klines.

Every kline that is due and missing from the exchange's answer must be accounted for: it lies before the series' first
kline, after the last one of a symbol that no longer trades, or in a hole of the exchange's own (for the evidence see
app/filling/absence.py). Only an accepted answer is stored or cached.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from cachetools import LRUCache

from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.validity import is_fresh
from app.filling.absence import AGAIN_MS, ANSWER_AFTER_MS, Absence, Unproven
from app.holding.copies import Copies
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Priority, RestApi
from app.querying.read_memory import AGE_MS_MAX, ReadMemory
from app.querying.single_flight import SingleFlight

READS_AT_ONCE_MAX: Final = 64  # more read-throughs under way would wait for weight longer than clients wait
READ_THROUGH_S_MAX: Final = 20.0
HOLES_MAX: Final = 8  # holes per answer: each takes a request of its own from time to time
ROWS_BEFORE_MIN: Final = 8  # rows fetched before a hole, so that the second request differs from the first

Keep = Callable[[Series, Grid, Span, Sequence[Row]], Awaitable[None]]
"""Commits klines of an accepted read-through if they are wished and this process is the writer."""

_Window = tuple[Series, Span | None, int, bool]


class Edge(NamedTuple):
    """How an answer begins or ends: with a hole of the exchange's own, or at `ended_ms`, where the klines end."""

    holes: tuple[Span, ...] = ()
    ended_ms: int | None = None


class ReadThrough:
    """Fetches klines for the query service and checks that none is lacking. Every coroutine raises UpstreamError."""

    def __init__(
        self,
        clock: Clock,
        rest: RestApi,
        copies: Copies,
        absence: Absence,
        keep: Keep,
        *,
        is_allowed: bool,
    ) -> None:
        self._clock = clock
        self._rest = rest
        self._symbols = copies.symbols
        self._holdings = copies.ledgers
        self._absence = absence
        self._keep = keep
        self._is_allowed = is_allowed
        self._flights = SingleFlight[_Window, Sequence[Any]](READS_AT_ONCE_MAX, "read-throughs")
        self._proven_lately: LRUCache[Series, tuple[tuple[Span, int], ...]] = LRUCache(1_024)
        self.memory = ReadMemory(clock)

    @property
    def under_way(self) -> int:
        """The number of read-throughs that wait for the exchange's answer."""
        return len(self._flights)

    async def klines(self, series: Series, grid: Grid, span: Span | None, limit: int) -> Sequence[Any]:
        """The oldest `limit` klines of `span`, or without it the newest: from the cache or by one shared request."""
        if span is not None and (known := self.memory.klines(series, grid, span, limit)) is not None:
            return known
        return await self._once(series, grid, span, limit)

    async def newest_before(self, series: Series, grid: Grid, end_ms: int, limit: int) -> Sequence[Any]:
        """The last `limit` klines that open before `end_ms`, however far they reach back."""
        return await self._once(series, grid, Span(0, end_ms), limit, newest=True)

    async def accept(self, series: Series, grid: Grid, span: Span, limit: int, klines: Sequence[Row]) -> None:
        """Accept `klines` as the oldest `limit` of `span`: commit those that are wished, cache the rest."""
        if klines:
            self._absence.found(series, Span(klines[0].open_ms, klines[0].open_ms + 1))
        await self._keep(series, grid, span, klines)
        if not self._holdings.ledger(series).known.covers(span):
            self.memory.learn(series, grid, span, limit, klines)

    async def _once(
        self, series: Series, grid: Grid, span: Span | None, limit: int, *, newest: bool = False
    ) -> Sequence[Any]:
        if not self._is_allowed:
            what = f"{series.name} {series.interval}"
            raise UpstreamUnavailable(f"{what} is not held there; READ_THROUGH is off", Reason.NOT_HELD)

        async def ask() -> Sequence[Any]:
            async with asyncio.timeout(READ_THROUGH_S_MAX):
                return await self._rest.klines(series, grid, span, limit, Priority.USER, newest=newest)

        return await self._flights.join((series, span, limit, newest), ask)

    def _garbage(self, series: Series, what: str) -> UpstreamGarbage:
        """The error for an answer that lacks klines; invalidates everything cached of the series."""
        self._forget(series)
        return UpstreamGarbage(f"{series.name} {series.interval}: {what}", Reason.NOT_WHOLE)

    def _forget(self, series: Series) -> None:
        self.memory.forget(series)
        self._proven_lately.pop(series, None)

    def is_trading(self, series: Series) -> bool:
        """Whether the exchange must have a kline of `series` for every interval that has closed (by its own list)."""
        listing = self._symbols.listing(series.symbol)
        now_ms = self._clock.now_ms()
        return (
            listing is not None and listing.status == "TRADING" and listing.onboard_ms <= now_ms < listing.delivery_ms
        )

    # --- what may not be lacking ----------------------------------------------------------------------------------

    async def check_begin(self, series: Series, grid: Grid, span: Span, klines: Sequence[Row]) -> Edge:
        """How an answer for `span` begins. Raises UpstreamGarbage when it begins late for no proven reason.

        The exchange is asked for the symbol's first kline, because an answer that lacks klines looks like a whole one.
        If it names an earlier first kline than the answer has, the span in between is a hole, or the answer is wrong.
        """
        late = Span(span.start_ms, klines[0].open_ms if klines else span.end_ms)
        ledger = self._holdings.ledger(series)
        if not late or ledger.absent.covers(late):
            return Edge()
        first_ms = late.end_ms if klines or ledger.held.span_at(late.end_ms) else None
        if first_ms is not None and self.memory.begin_ms(series) == first_ms:
            return Edge()
        begin_ms = await self._begin_ms(series, grid, late.end_ms, first_ms)
        if begin_ms == first_ms or (first_ms is None and begin_ms is not None and begin_ms >= late.end_ms):
            await self._check_nothing_before(series, grid, late.end_ms if begin_ms is None else begin_ms)
            if begin_ms is not None:
                self.memory.learn_begin(series, begin_ms)
            return Edge()
        if begin_ms is None or begin_ms >= late.start_ms:
            raise self._garbage(series, "REST's answer lacks the first klines asked for")
        if first_ms is None:
            newest_ms = await self._newest_ms(series, grid)
            if newest_ms < late.start_ms:
                return self._ended(series, grid, late, newest_ms)
            if newest_ms < late.end_ms:
                raise self._garbage(series, "REST's answer lacks the newest klines")
        await self._check_hole(series, grid, late, klines)
        return Edge((late,))

    async def _begin_ms(self, series: Series, grid: Grid, end_ms: int, first_ms: int | None) -> int | None:
        """The open time (ms) of the exchange's first kline until `first_ms`, or until now; None if it names none.

        Without `first_ms`, an empty answer for the span before `end_ms` would prove nothing: an answer that lacks its
        rows is as empty. A first kline after `end_ms` is evidence. A symbol that trades has one, at least in progress.
        """
        now_ms = self._clock.now_ms()
        last_ms = max(end_ms, grid.shift(grid.floor(now_ms), 1)) if first_ms is None else grid.shift(first_ms, 1)
        found = await self._once(series, grid, Span(0, last_ms), 1)  # uncached: the cache may have the doubted answer
        if not found and self.is_trading(series):
            raise self._garbage(series, "REST's answer lacks the first kline")
        return int(found[0].open_ms) if found else None

    async def _check_nothing_before(self, series: Series, grid: Grid, begin_ms: int) -> None:
        """Raise UpstreamGarbage unless it is believed that the exchange has no klines before `begin_ms`."""
        before = Span(0, begin_ms)
        try:
            self._absence.must_not_lack(series, before)
            doubt = await self._absence.doubt(series, grid, begin_ms)
            self._absence.check(series, before, ANSWER_AFTER_MS[doubt])
        except UpstreamGarbage:
            self._forget(series)
            raise

    async def holes_between(
        self,
        series: Series,
        grid: Grid,
        klines: Sequence[Row],
        *,
        after_ms: int | None = None,
        before_ms: int | None = None,
    ) -> tuple[Span, ...]:
        """The unrecorded holes between the exchange's klines, and to the known ones before (`after_ms`) and after them.

        Raises UpstreamGarbage when a hole is not proven to be the exchange's own.
        """
        holes = self._unrecorded_holes(series, grid, klines, after_ms, before_ms)
        if len(holes) > HOLES_MAX:
            raise self._garbage(series, "REST's answer is full of holes")
        self._check_claims(series, holes)  # all at once: one after the other would multiply the wait
        for hole in holes:
            await self._check_hole(series, grid, hole, klines)
        return tuple(holes)

    def check_unbroken(self, series: Series, grid: Grid, klines: Sequence[Row], *, after_ms: int) -> None:
        """Raise UpstreamGarbage when the newest klines have a hole between them or after `after_ms`."""
        if self._unrecorded_holes(series, grid, klines, after_ms, None):
            raise self._garbage(series, "klines are missing from REST's answer")

    def _unrecorded_holes(
        self, series: Series, grid: Grid, klines: Sequence[Row], after_ms: int | None, before_ms: int | None
    ) -> list[Span]:
        """Holes of an answer that the ledger does not record as absent; a hole where rows are held counts too."""
        if not klines:
            return []
        holes = [Span(grid.shift(one.open_ms, 1), other.open_ms) for one, other in pairwise(klines)]
        if after_ms is not None:
            holes.append(Span(after_ms, klines[0].open_ms))
        if before_ms is not None:
            holes.append(Span(grid.shift(klines[-1].open_ms, 1), before_ms))
        absent = self._holdings.ledger(series).absent
        return [hole for hole in holes if grid.count(*hole) and not absent.covers(hole)]

    async def _check_hole(self, series: Series, grid: Grid, hole: Span, klines: Sequence[Row]) -> None:
        """Raise UpstreamGarbage unless the exchange has no klines in `hole`, and some on both sides.

        The exchange must claim so twice, some seconds apart; the second request differs from the first, and its answer
        must have every kline around the hole that is known to exist. No held row may refute the claim.
        """
        if self._was_proven_lately(series, hole):
            return
        self._check_claims(series, [hole])
        page_rows = series.kind.rest.rows_thrifty
        rows_before = max(ROWS_BEFORE_MIN, page_rows - 1 - grid.count(*hole))
        start_ms = grid.ceil(max(0, grid.shift(grid.ceil(hole.start_ms), -rows_before)))
        around = Span(start_ms, grid.shift(grid.ceil(hole.end_ms), 1))
        limit = min(page_rows, grid.count(*around))
        given = {kline.open_ms for kline in await self._once(series, grid, around, limit)}
        expected = {kline.open_ms for kline in klines if around.start_ms <= kline.open_ms < around.end_ms}
        for span in self._holdings.ledger(series).held.clip(around):
            expected.update(grid.opens(*span))
        if expected - given or any(hole.start_ms <= open_ms < hole.end_ms for open_ms in given):
            self._absence.found(series, hole)
            raise self._garbage(series, "klines are missing from REST's answer")
        kept = [each for each in self._proven_lately.get(series, ()) if hole.clip(each[0]) != each[0]]
        self._proven_lately[series] = (*kept[1 - HOLES_MAX :], (hole, self._clock.now_ms()))

    def _check_claims(self, series: Series, holes: Sequence[Span]) -> None:
        """Raise UpstreamGarbage when a held row refutes a hole, Unproven until the exchange has repeated all claims."""
        unproven: Unproven | None = None
        try:
            for hole in holes:
                if self._was_proven_lately(series, hole):
                    continue
                self._absence.must_not_lack(series, hole)
                try:
                    self._absence.check(series, hole, AGAIN_MS)
                except Unproven as error:
                    unproven = error
            if unproven is not None:
                raise unproven
        except UpstreamGarbage:
            self._forget(series)
            raise

    def _was_proven_lately(self, series: Series, hole: Span) -> bool:
        now_ms = self._clock.now_ms()
        return any(
            span.clip(hole) == hole and is_fresh(at_ms, now_ms, AGE_MS_MAX)
            for span, at_ms in self._proven_lately.get(series, ())
        )

    async def _newest_ms(self, series: Series, grid: Grid) -> int:
        """The open time (ms) of the exchange's newest kline, for a symbol that has klines."""
        newest = await self.klines(series, grid, None, 1)
        if not newest:
            raise self._garbage(series, "REST has a first kline and no newest one")
        return int(newest[-1].open_ms)

    def _ended(self, series: Series, grid: Grid, last: Span, newest_ms: int) -> Edge:
        """The Edge of a symbol whose klines end before `last`. Raises UpstreamGarbage when `last` must have klines."""
        ended_ms = grid.shift(newest_ms, 1)
        if self.is_trading(series):
            raise self._garbage(series, f"REST's answer ends before {last.end_ms}")
        self._absence.must_not_lack(series, Span(ended_ms, last.end_ms))
        return Edge(ended_ms=ended_ms)

    async def check_end(self, series: Series, grid: Grid, last: Span, klines: Sequence[Row], *, is_begun: bool) -> Edge:
        """How an answer ends without `last`, which is due.

        Raises UpstreamGarbage when the absence is not proven: the exchange has a kline in `last`; or it has klines on
        both sides (`is_begun`: before `last`) and has claimed the hole only once; or the symbol trades and its newest
        kline is older than `last`.
        """
        listing = self._symbols.listing(series.symbol)
        if not grid.count(*last) or (not is_begun and listing is not None and last.end_ms <= listing.onboard_ms):
            return Edge()
        newest = await self.klines(series, grid, None, 1)
        if not newest:
            self.check_newest(series, grid, last.end_ms)
            return Edge()
        newest_ms = newest[-1].open_ms
        if newest_ms < last.start_ms:
            return self._ended(series, grid, last, newest_ms)
        if newest_ms < last.end_ms:
            raise self._garbage(series, f"REST's answer ends before {last.end_ms}")
        if not is_begun:
            return Edge()
        await self._check_hole(series, grid, last, klines)
        return Edge((last,))

    def check_newest(self, series: Series, grid: Grid, end_ms: int) -> None:
        """Raise UpstreamGarbage when the exchange, asked for the newest klines, must have one before `end_ms`.

        A symbol that trades has a kline in progress, however recently it was listed.
        """
        listing = self._symbols.listing(series.symbol)
        is_begun = listing is not None and listing.onboard_ms < end_ms and self.is_trading(series)
        if is_begun or self._absence.refuted_by(series, Span(0, grid.ceil(end_ms))) is not None:
            raise self._garbage(series, "REST's answer lacks the newest klines")

    async def check_absent(self, series: Series, grid: Grid, last: Span) -> None:
        """Raise UpstreamGarbage when the exchange has klines now in `last`, which was proven absent a while ago.

        Those klines are committed, so that the next answer has them.
        """
        found = await self._once(series, grid, last, min(series.kind.rest.rows_thrifty, grid.count(*last)))
        if found:
            await self._keep(series, grid, last, found)
            raise self._garbage(series, "REST has klines that were proven absent")


def absent_within(absent: Spans, rows: Sequence[int], grid: Grid) -> tuple[Span, ...]:
    """The spans without klines between the first and the last of `rows` (open times, ascending)."""
    if not rows:
        return ()
    inner = absent.clip(Span(rows[0], grid.shift(rows[-1], 1)))
    return tuple(Span(grid.ceil(start), grid.ceil(end)) for start, end in inner)
