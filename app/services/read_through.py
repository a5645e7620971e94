"""Read-through: asks the exchange once for all who miss the same, and refuses answers of it that lack klines."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Final

from app.domain.interval import DAY_MS, M1, Grid
from app.domain.kline import Kline
from app.domain.span import Span
from app.ports import Clock, Priority, RestApi, Series, UpstreamGarbage, UpstreamUnavailable
from app.services.answer import END_OF_TIME_MS
from app.services.flights import Flights
from app.services.holdings import Holdings
from app.services.read_memory import ReadMemory
from app.services.symbol_sync import SymbolSync

READS_AT_ONCE_MAX: Final = 64  # read-throughs under way; more would queue for weight longer than clients wait
READ_THROUGH_S_MAX: Final = 20.0
ABSENT_ROWS_MAX: Final = 499  # weight 2: the most rows per weight (binance-facts section 3)

FIRST_KLINE_MS_MAX: Final = DAY_MS  # after the time that exchangeInfo gives as a symbol's onboardDate

_PENDING: Final = "PENDING_TRADING"  # listed, and not traded yet (binance-facts section 4)

Keep = Callable[[Series, Grid, Span, Sequence[Kline]], Awaitable[None]]


class ReadThrough:
    """What the query service asks of the exchange. Every call raises UpstreamError."""

    def __init__(
        self, clock: Clock, rest: RestApi, symbols: SymbolSync, holdings: Holdings, *, is_allowed: bool
    ) -> None:
        self._clock = clock
        self._rest = rest
        self._symbols = symbols
        self._holdings = holdings
        self._is_allowed = is_allowed
        self._flights = Flights[tuple[Series, Span | None, int], list[Kline]](READS_AT_ONCE_MAX, "read-throughs")
        self.keep: Keep | None = None
        """Commits klines that were read through; only the writer has one."""
        self.memory = ReadMemory(clock)

    @property
    def under_way(self) -> int:
        """How many questions to the exchange are not answered yet."""
        return len(self._flights)

    async def klines(self, series: Series, grid: Grid, span: Span | None, limit: int) -> list[Kline]:
        """The oldest `limit` klines of `span`, or the newest there are; once for all who wait, and remembered."""
        if span is not None and (known := self.memory.klines(series, grid, span, limit)) is not None:
            return known
        return await self._once(series, grid, span, limit)

    async def _once(self, series: Series, grid: Grid, span: Span | None, limit: int) -> list[Kline]:
        if not self._is_allowed:
            raise UpstreamUnavailable(f"{series.symbol} {series.interval} is not held there; READ_THROUGH is off")
        return await self._flights.join((series, span, limit), lambda: self._ask(series, grid, span, limit))

    async def _ask(self, series: Series, grid: Grid, span: Span | None, limit: int) -> list[Kline]:
        async with asyncio.timeout(READ_THROUGH_S_MAX):
            klines = await self._rest.klines(series, grid, span, limit, Priority.USER)
            if span is not None:
                if self.keep is not None:
                    await self.keep(series, grid, span, klines)
                if not self._holdings.ledger(series).known.covers(span):
                    self.memory.learn(series, grid, span, limit, klines)
        return klines

    def _garbage(self, series: Series, what: str) -> UpstreamGarbage:
        """An answer that lacks klines: nothing that was told of the series is believed any longer."""
        self.memory.forget(series)
        return UpstreamGarbage(f"{series.symbol} {series.interval}: {what}")

    def is_trading(self, series: Series) -> bool:
        """Whether the exchange must have a kline of `series` for every interval that has closed (by its own list)."""
        listing = self._symbols.listing(series.listed)
        now_ms = self._clock.now_ms()
        return (
            listing is not None and listing.status == "TRADING" and listing.onboard_ms <= now_ms < listing.delivery_ms
        )

    # --- what may not be lacking ----------------------------------------------------------------------------------

    def must_have(self, series: Series, grid: Grid, span: Span) -> bool:
        """Whether the exchange has klines in `span`, whatever it answers.

        It has those of a symbol's trades from its listing to its delivery, and between any that are held.
        """
        listing = self._symbols.listing(series.listed)
        begun_ms, ended_ms = END_OF_TIME_MS, 0
        if listing is not None and listing.status != _PENDING and series.is_of_trades:  # its onboardDate is a plan
            begun_ms = listing.onboard_ms + FIRST_KLINE_MS_MAX
            ended_ms = END_OF_TIME_MS if self.is_trading(series) else listing.delivery_ms
        for known in (series, Series(series.symbol, M1)):
            if held := self._holdings.ledger(known).held:
                begun_ms, ended_ms = min(begun_ms, held.hull.start_ms), max(ended_ms, held.hull.end_ms)
        if begun_ms >= span.end_ms:
            return False
        first_ms = grid.ceil(max(span.start_ms, grid.floor(begun_ms)))
        return first_ms < min(span.end_ms, ended_ms)

    async def check_begin(self, series: Series, grid: Grid, span: Span, klines: Sequence[Kline]) -> None:
        """Raise UpstreamGarbage when what the exchange gave begins late although it has klines before that.

        It is asked for the symbol's first kline: that must be the one it gave first, or the held one next to `span`. An
        answer that lacks klines looks like the truth; one that lacks the first of them and has the second is another.
        """
        late = Span(span.start_ms, klines[0].open_ms if klines else span.end_ms)
        ledger = self._holdings.ledger(series)
        if not late or ledger.absent.covers(late):
            return
        is_refuted = self.must_have(series, grid, Span(0, late.end_ms))
        if not is_refuted:
            first_ms = late.end_ms if klines or ledger.held.span_at(late.end_ms) else None
            if first_ms is not None and self.memory.begin_ms(series) == first_ms:
                return
            until = Span(0, late.end_ms if first_ms is None else grid.shift(first_ms, 1))
            found = await self._once(series, grid, until, 1)  # in another way: memory has the answer that is doubted
            is_refuted = (found[0].open_ms if found else None) != first_ms
            if first_ms is not None and not is_refuted:
                self.memory.learn_begin(series, first_ms)
        if is_refuted:
            raise self._garbage(series, "REST's answer lacks the first klines asked for")

    def check_unbroken(
        self,
        series: Series,
        grid: Grid,
        klines: Sequence[Kline],
        *,
        after_ms: int | None = None,
        before_ms: int | None = None,
    ) -> None:
        """Raise UpstreamGarbage where klines that the exchange gave lack some between them, or next to what is held.

        Only proven absence excuses a hole: klines that are held there are not in the answer either.
        """
        if not klines:
            return
        holes = [Span(grid.shift(one.open_ms, 1), other.open_ms) for one, other in pairwise(klines)]
        if after_ms is not None:
            holes.append(Span(after_ms, klines[0].open_ms))
        if before_ms is not None:
            holes.append(Span(grid.shift(klines[-1].open_ms, 1), before_ms))
        absent = self._holdings.ledger(series).absent
        if any(grid.count(*hole) and not absent.covers(hole) for hole in holes):
            raise self._garbage(series, "klines are missing from REST's answer")

    async def check_end(self, series: Series, grid: Grid, last: Span, *, is_begun: bool) -> None:
        """Raise UpstreamGarbage when `last`, due klines that an answer of the exchange ends without, should be in it.

        That is so when it has a kline there, when it has klines on both sides (`is_begun`: before), and when its newest
        one is older although the symbol trades.
        """
        listing = self._symbols.listing(series.listed)
        if not grid.count(*last) or (not is_begun and listing is not None and last.end_ms <= listing.onboard_ms):
            return
        newest = await self.klines(series, grid, None, 1)
        if not newest:
            self.check_newest(series, grid, last.end_ms)
            return
        newest_ms = newest[-1].open_ms
        is_after, is_before = newest_ms >= last.end_ms, newest_ms < last.start_ms
        if (not is_before and not is_after) or (is_after and is_begun) or (is_before and self.is_trading(series)):
            raise self._garbage(series, f"REST's answer ends before {last.end_ms}")

    def check_newest(self, series: Series, grid: Grid, end_ms: int) -> None:
        """Raise UpstreamGarbage when the exchange, asked for the newest klines, must have one before `end_ms`.

        A symbol that trades has one in progress, however lately it was listed.
        """
        listing = self._symbols.listing(series.listed)
        is_begun = listing is not None and listing.onboard_ms < end_ms and self.is_trading(series)
        if is_begun or self.must_have(series, grid, Span(0, end_ms)):
            raise self._garbage(series, "REST's answer lacks the newest klines")

    async def check_absent(self, series: Series, grid: Grid, last: Span) -> None:
        """Raise UpstreamGarbage when the exchange has klines now in `last`, which was proven absent a while ago.

        They are kept, so that the next answer has them.
        """
        if await self._once(series, grid, last, min(ABSENT_ROWS_MAX, grid.count(*last))):
            raise self._garbage(series, "REST has klines that were proven absent")
