"""Read-through: asks the exchange once for all who miss the same, and refuses answers of it that lack klines.

Every kline that is due and not in an answer has to be accounted for: before the first one there ever was, behind the
last one of a symbol that does not trade any longer, or in a hole of the exchange's own (app/filling/absence.py says
what it takes). Only an answer that was accepted is kept or remembered.
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

READS_AT_ONCE_MAX: Final = 64  # read-throughs under way; more would queue for weight longer than clients wait
READ_THROUGH_S_MAX: Final = 20.0
HOLES_MAX: Final = 8  # of an answer: each takes a request of its own once in a while
ROWS_BEFORE_MIN: Final = 8  # asked for with a hole, so that the same question is not asked twice

Keep = Callable[[Series, Grid, Span, Sequence[Row]], Awaitable[None]]
"""Commits klines that were read through and accepted, where they are wished and this process writes."""

_Window = tuple[Series, Span | None, int, bool]


class Edge(NamedTuple):
    """How an answer begins or ends: with a hole of the exchange's own, or because a symbol's klines end there."""

    holes: tuple[Span, ...] = ()
    ended_ms: int | None = None


class ReadThrough:
    """What the query service asks of the exchange. Every call raises UpstreamError."""

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
        """How many questions to the exchange are not answered yet."""
        return len(self._flights)

    async def klines(self, series: Series, grid: Grid, span: Span | None, limit: int) -> Sequence[Any]:
        """The oldest `limit` klines of `span`, or the newest there are; once for all who wait, or as remembered."""
        if span is not None and (known := self.memory.klines(series, grid, span, limit)) is not None:
            return known
        return await self._once(series, grid, span, limit)

    async def newest_before(self, series: Series, grid: Grid, end_ms: int, limit: int) -> Sequence[Any]:
        """The last `limit` klines that open before `end_ms`, however far they reach back."""
        return await self._once(series, grid, Span(0, end_ms), limit, newest=True)

    async def accept(self, series: Series, grid: Grid, span: Span, limit: int, klines: Sequence[Row]) -> None:
        """The oldest `limit` klines of `span` are these: keep what is wished of them, remember the rest."""
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
        """An answer that lacks klines: nothing that was told of the series is believed any longer."""
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

        The exchange is asked for the symbol's first kline: an answer that lacks klines looks like the truth; one that
        lacks the first of them and has the second is another.
        """
        late = Span(span.start_ms, klines[0].open_ms if klines else span.end_ms)
        ledger = self._holdings.ledger(series)
        if not late or ledger.absent.covers(late):
            return Edge()
        first_ms = late.end_ms if klines or ledger.held.span_at(late.end_ms) else None
        if first_ms is not None and self.memory.begin_ms(series) == first_ms:
            return Edge()
        until = Span(0, late.end_ms if first_ms is None else grid.shift(first_ms, 1))
        found = await self._once(series, grid, until, 1)  # in another way: memory has the answer that is doubted
        begin_ms = found[0].open_ms if found else None
        if begin_ms == first_ms:
            await self._check_nothing_before(series, grid, late.end_ms)
            if first_ms is not None:
                self.memory.learn_begin(series, first_ms)
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
        """The holes between klines that the exchange gave, and to what is known before and behind them.

        Raises UpstreamGarbage when one of them is not proven to be the exchange's own.
        """
        holes = self._unrecorded_holes(series, grid, klines, after_ms, before_ms)
        if len(holes) > HOLES_MAX:
            raise self._garbage(series, "REST's answer is full of holes")
        self._check_claims(series, holes)  # of all at once: one after the other would take as many times as long
        for hole in holes:
            await self._check_hole(series, grid, hole, klines)
        return tuple(holes)

    def check_unbroken(self, series: Series, grid: Grid, klines: Sequence[Row], *, after_ms: int) -> None:
        """Raise UpstreamGarbage when newest klines lack some between them, or to what is known before them."""
        if self._unrecorded_holes(series, grid, klines, after_ms, None):
            raise self._garbage(series, "klines are missing from REST's answer")

    def _unrecorded_holes(
        self, series: Series, grid: Grid, klines: Sequence[Row], after_ms: int | None, before_ms: int | None
    ) -> list[Span]:
        """Holes of an answer that the ledger does not record as absent; a held span is one too: its rows lack."""
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

        It has to say so twice, some seconds apart, the second time asked in another way, by an answer that has every
        kline around the hole that is known to exist; and nothing that is held may refute it.
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
        """Raise UpstreamGarbage when something refutes a hole, or until the exchange has stood by all of them."""
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
        """When the exchange's newest kline opens, of a symbol that has some."""
        newest = await self.klines(series, grid, None, 1)
        if not newest:
            raise self._garbage(series, "REST has a first kline and no newest one")
        return int(newest[-1].open_ms)

    def _ended(self, series: Series, grid: Grid, last: Span, newest_ms: int) -> Edge:
        """The end of a symbol's klines, due ones in `last` lacking. Raises UpstreamGarbage when these must exist."""
        ended_ms = grid.shift(newest_ms, 1)
        if self.is_trading(series):
            raise self._garbage(series, f"REST's answer ends before {last.end_ms}")
        self._absence.must_not_lack(series, Span(ended_ms, last.end_ms))
        return Edge(ended_ms=ended_ms)

    async def check_end(self, series: Series, grid: Grid, last: Span, klines: Sequence[Row], *, is_begun: bool) -> Edge:
        """How an answer ends without `last`, which is due.

        Raises UpstreamGarbage when that is not proven: the exchange has a kline there, or klines on both sides
        (`is_begun`: before) and says so once, or its newest one is older although the symbol trades.
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

        A symbol that trades has one in progress, however lately it was listed.
        """
        listing = self._symbols.listing(series.symbol)
        is_begun = listing is not None and listing.onboard_ms < end_ms and self.is_trading(series)
        if is_begun or self._absence.refuted_by(series, Span(0, grid.ceil(end_ms))) is not None:
            raise self._garbage(series, "REST's answer lacks the newest klines")

    async def check_absent(self, series: Series, grid: Grid, last: Span) -> None:
        """Raise UpstreamGarbage when the exchange has klines now in `last`, which was proven absent a while ago.

        They are kept, so that the next answer has them.
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
