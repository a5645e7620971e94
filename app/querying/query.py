"""The query service: whole answers from the tail, the store and, for what neither holds, one upstream request.

An answer is a run of open times that are all known: held, or proven absent. Where the run meets an unknown open time,
the exchange is asked for the rest (READ_THROUGH), or the answer is an error in Binance's shape, or, where the caller
allows it, the held klines with a list of the missing spans. The kline in progress ends the answer if the query asks
for it. No answer claims to end with the newest kline while the node cannot know the exchange's time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from app.binance import rest_rows
from app.binance.error_body import BinanceError, service_unavailable
from app.domain import letters
from app.domain.interval import Grid
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.copies import Copies
from app.holding.tail import SeriesTail
from app.holding.wish import Wish
from app.kinds.registry import spelt
from app.ports.clock import ConfirmedClock
from app.ports.errors import StoreUnavailable, UpstreamError, UpstreamUnavailable
from app.querying.answer import END_OF_TIME_MS, Answer, KlineQuery, Shortfall
from app.querying.gather import NOTHING, Gatherer
from app.querying.in_progress import Unfinished
from app.querying.lacking import never_comes
from app.querying.prove import Proven, Prover
from app.querying.refusal import RETRY_AFTER_S, refusal_of
from app.querying.tail_cut import LIVE_PAGE_MS, cut_of, newest, rendered
from app.querying.window import Window, closed_end_ms, window_of

ANSWER_S_MAX: Final = 50.0  # nginx gives up after 60 s: until then the client gets our reason
PARTIAL_S_MAX: Final = 5.0  # additional time for a partial answer, where the client accepts one
TRIES_MAX: Final = 2  # an answer is made again once when the exchange's time turns out to differ from ours
INTERVALS_BEHIND_MAX: Final = 2  # one kline may close while an answer is made; two would make it stale

HOLED_PAGE_MS: Final = 60_000
"""A page with an unrecorded hole is made again after this long: the exchange does not report when it fills one."""


class QueryService:
    """Answers klines queries from the tail, the store or the exchange."""

    def __init__(
        self,
        clock: ConfirmedClock,
        copies: Copies,
        gatherer: Gatherer,
        prover: Prover,
        in_progress: Unfinished,
        wish: Callable[[], Wish],
    ) -> None:
        """`wish` returns the current wish."""
        self._clock = clock
        self._symbols = copies.symbols
        self._holdings = copies.ledgers
        self._tail = copies.tail
        self._gatherer = gatherer
        self._prover = prover
        self._in_progress = in_progress
        self._wish = wish

    def keeps(self, series: Series) -> bool:
        """Whether `series` is served from held klines: it is wished, or part of it is known."""
        return self._wish().has(series) or bool(self._holdings.ledger(series).known)

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case is accepted), or None."""
        name = letters.upper(text)
        if name in self._symbols.listings or name in self._symbols.wished_set or name in self._holdings.names():
            return name
        return None

    def name(self, text: str) -> str | None:
        """The name of series as a client wrote it, such as `BTCUSDT` or `btcusdt@markPrice`, or None."""
        written, at, _ = (spelt(text) or "@").partition("@")
        symbol = self.symbol(written)
        return None if symbol is None else f"{symbol}{at}{text.partition('@')[2]}"

    def listed(self, text: str) -> str | None:
        """Like `symbol`, but raises BinanceError (503) for an unknown name if the exchange's list was never read."""
        name = self.symbol(text)
        if name is None and not self._symbols.listings:
            raise service_unavailable(RETRY_AFTER_S, Reason.NOT_SYNCED)
        return name

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """The answer if tail and memory suffice, without any I/O; otherwise None. `now_ms`: the current time."""
        series = query.series
        if not self._clock.is_trusted or not self._holdings.is_anchored(series):
            return None
        if series.symbol in self._holdings.doubted:
            return None
        tail = self._tail.get(series)
        if tail is None or not tail.rows:
            return None
        grid = self._holdings.grid(series)
        if (answer := newest(query, grid, tail, now_ms)) is not None:
            self._tail.read(tail)
            return answer
        window = window_of(query, grid, closed_end_ms(grid, tail, now_ms), now_ms)
        if (cut := cut_of(query, grid, window, tail)) is None:
            return None
        live = None
        if (ahead := window.ahead_of(cut.rows)) is not None:
            live = self._in_progress.known(series, grid, window.closed_end_ms)
            if live is None:
                return None
            live = live[ahead]
        answer = cut.answer(live, now_ms)
        self._tail.read(tail)
        return answer

    async def answer(self, query: KlineQuery) -> Answer:
        """The answer to `query`, whole unless it allows a partial one. Raises BinanceError."""
        if query.series.symbol in self._holdings.doubted:
            # it is being checked which listing the held klines belong to
            raise service_unavailable(RETRY_AFTER_S, Reason.NOT_SYNCED)
        deadline = asyncio.timeout(ANSWER_S_MAX)
        try:
            async with deadline:
                return await self._answer(query, TRIES_MAX)
        except (UpstreamError, TimeoutError) as error:
            is_late = deadline.expired()
            refusal = _too_slow() if is_late else self._refusal_of(error, query)
            if query.allow_partial and refusal.status == 503 and self._holdings.is_anchored(query.series):
                try:
                    async with asyncio.timeout(PARTIAL_S_MAX):
                        return await self._partial(query)
                except TimeoutError as fault:
                    raise _too_slow() from fault
                except StoreUnavailable as fault:
                    raise refusal_of(fault, self._clock.now_ms()) from fault
            raise refusal from error
        except StoreUnavailable as error:
            raise refusal_of(error, self._clock.now_ms()) from error

    def _refusal_of(self, error: UpstreamError | TimeoutError, query: KlineQuery) -> BinanceError:
        """The error for the client, with Retry-After unless nobody will ever fetch klines of the series."""
        now_ms, series = self._clock.now_ms(), query.series
        wish, is_lacking = self._wish(), isinstance(error, UpstreamError) and error.cause is Reason.NOT_HELD
        if not is_lacking or wish.has(series) or series.symbol in wish.doubted:
            return refusal_of(error, now_ms)
        return never_comes(series)

    async def _answer(self, query: KlineQuery, tries: int) -> Answer:
        is_time_known = self._clock.is_trusted
        now_ms = self._clock.now_ms()
        grid = await self._prover.grid(query.series)
        if grid is None:
            return Answer(b"[]", query.series, Span(0, END_OF_TIME_MS), False, now_ms + LIVE_PAGE_MS)
        tail = self._tail.get(query.series)
        window = window_of(query, grid, closed_end_ms(grid, tail, now_ms), now_ms)
        is_newest = self._is_newest(query.series, grid, window, is_time_known)
        if is_newest and (answer := await self._from_tail(query, grid, window, now_ms)) is not None:
            return answer
        first_ms = window.span.start_ms
        if (body := await self._gatherer.history(query.series, grid, window)) is not None:
            return rendered(query, grid, window, first_ms, body, now_ms, is_live=False)
        read = await self._from_store(query.series, grid, window, tail)
        first_ms = min([first_ms, *(open_ms for open_ms, _ in read.rows[:1])])
        rows = [row for _, row in read.rows]
        if window.reaches_end(len(rows)) and not self._is_newest(query.series, grid, window, is_time_known):
            return await self._again(query, grid, tries)
        live = await self._live(query.series, grid, window, len(rows))
        if live == [] and window.newest and not self._prover.is_trading(query.series):
            return await self._answer(query._replace(only_final=True), tries)  # it has no kline in progress any more
        rows += live or ()
        rows = rows[-query.limit :] if window.newest else rows[: query.limit]
        body = rest_rows.join(rows)
        answer = rendered(query, grid, window, first_ms, body, now_ms, is_live=live is not None)
        return _with_holes(answer, read, now_ms) if read.holes else answer

    async def _live(self, series: Series, grid: Grid, window: Window, rows: int) -> list[bytes] | None:
        """The kline in progress after `rows` closed ones, and any that closed meanwhile; None if not asked for."""
        if (ahead := window.ahead_of(rows)) is None:
            return None
        return (await self._in_progress.rows(series, grid, window.closed_end_ms))[ahead]

    def _is_newest(self, series: Series, grid: Grid, window: Window, is_time_known: bool) -> bool:
        """Whether the window still ends with the newest closed kline; False if the time was not known at the start."""
        end_ms = closed_end_ms(grid, self._tail.get(series), self._clock.now_ms())
        return is_time_known and grid.count(window.closed_end_ms, end_ms) < INTERVALS_BEHIND_MAX

    async def _again(self, query: KlineQuery, grid: Grid, tries: int) -> Answer:
        """Answer again after the exchange has confirmed its time.

        Raises UpstreamUnavailable when the time is still not confirmed, or no try is left.
        """
        if tries > 1 and not self._clock.is_trusted:
            await self._prover.ask_anything(query.series, grid)
        if tries <= 1 or not self._clock.is_trusted:
            raise UpstreamUnavailable(
                "it is not known what time it is at the exchange, so nor which kline is newest", Reason.CLOCK
            )
        return await self._answer(query, tries - 1)

    # --- where it comes from ------------------------------------------------------------------------------------

    async def _from_tail(self, query: KlineQuery, grid: Grid, window: Window, now_ms: int) -> Answer | None:
        """The answer, made without the database and with one copy of the rows; None if the tail lacks some."""
        tail = self._tail.get(query.series)
        if tail is None or (cut := cut_of(query, grid, window, tail)) is None:
            return None
        was = (tail.start_ms, tail.end_ms)
        live = await self._live(query.series, grid, window, cut.rows)
        if self._tail.get(query.series) is not tail or (tail.start_ms, tail.end_ms) != was:
            return None  # one closed meanwhile, or the tail was dropped
        answer = cut.answer(live, now_ms)
        self._tail.read(tail)
        return answer

    async def _from_store(self, series: Series, grid: Grid, window: Window, tail: SeriesTail | None) -> Proven:
        """The rows from store and tail, and from the exchange for unknown open times."""
        if not window.span or not window.limit:
            return Proven([])
        return await self._prover.complete(series, grid, window, await self._gatherer.rows(series, grid, window, tail))

    # --- less than the whole --------------------------------------------------------------------------------------

    async def _partial(self, query: KlineQuery) -> Answer:
        """The held rows of the window, with a count of the missing ones. Raises StoreUnavailable."""
        series, now_ms = query.series, self._clock.now_ms()
        grid, tail = self._holdings.grid(series), self._tail.get(series)
        window = window_of(query, grid, closed_end_ms(grid, tail, now_ms), now_ms)
        held = await self._gatherer.held(series, grid, window, tail) if window.span else NOTHING
        rows = held.rows[max(0, len(held.rows) - window.limit) :] if window.newest else held.rows[: window.limit]
        is_full = len(rows) == window.limit
        start_ms, end_ms = window.span
        if window.newest and rows:
            start_ms = rows[0][0] if is_full else min(start_ms, rows[0][0])
        elif rows and is_full:
            end_ms = grid.shift(rows[-1][0], 1)
        known, reaches_end = held.known, window.reaches_end(len(rows))
        is_newest_known = not reaches_end or (
            self._clock.is_trusted and self._prover.is_fresh(series, grid, window, held, rows)
        )
        if (ahead := window.ahead_of(len(rows))) is not None:
            end_ms = grid.shift(max(window.closed_end_ms, grid.floor(now_ms)), 1)
            opens = list(grid.opens(window.closed_end_ms, end_ms))
            live = self._in_progress.known(series, grid, window.closed_end_ms) or []
            found = list(zip(opens, live, strict=False))
            known |= Spans(Span(open_ms, grid.shift(open_ms, 1)) for open_ms, _ in found)
            rows, end_ms = [*rows, *found[ahead]], min(end_ms, grid.shift(opens[ahead][-1], 1))
            if window.newest and len(rows) > query.limit:
                rows = rows[-query.limit :]
                start_ms = rows[0][0]
            elif len(rows) > query.limit:
                rows = rows[: query.limit]
                end_ms = grid.shift(rows[-1][0], 1)
        asked = Span(start_ms, max(start_ms, end_ms))
        missing = tuple(
            span for hole in known.complement(asked) if (span := Span(grid.ceil(hole.start_ms), grid.ceil(hole.end_ms)))
        )
        shortfall = Shortfall(
            asked,
            len(rows),
            sum(grid.count(*span) for span in held.absent.clip(asked)),
            missing,
            sum(grid.count(*span) for span in missing),
            is_newest_known,
        )
        body = rest_rows.join([row for _, row in rows])
        is_whole = not missing and is_newest_known  # whole: the missing klines arrived meanwhile
        return Answer(body, series, asked, False, now_ms, None if is_whole else shortfall)


def _too_slow() -> BinanceError:
    return service_unavailable(RETRY_AFTER_S, Reason.SLOW)


def _with_holes(answer: Answer, read: Proven, now_ms: int) -> Answer:
    """The answer with its holes; an unrecorded hole limits its validity to HOLED_PAGE_MS."""
    until_ms = answer.valid_until_ms if read.is_recorded else min(answer.valid_until_ms, now_ms + HOLED_PAGE_MS)
    return answer._replace(holes=read.holes, valid_until_ms=until_ms)
