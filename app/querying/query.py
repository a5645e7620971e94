"""The query service: whole answers from the tail, the store and, for what neither holds, one upstream request.

An answer is a run of open times that are all known: held, or proven absent. Where the run meets a time nothing is
known of, the exchange is asked for the rest (READ_THROUGH), or the answer is an error in Binance's shape, or, where the
caller allows it, what is held with a statement of what is missing. The kline in progress ends the answer when it was
asked for. No answer claims to end with the newest kline while the node cannot know what time it is at the exchange.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from app.binance import rest_rows
from app.binance.error_body import BinanceError, service_unavailable
from app.domain import letters
from app.domain.interval import Grid
from app.domain.kind import Row
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.encoded_rows import EncodedRows
from app.holding.freshness import stale_at_ms
from app.holding.ledger_cache import LedgerCache
from app.holding.symbol_sync import SymbolSync
from app.holding.tail import SeriesTail, Tail
from app.kinds.registry import spelt
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable, UpstreamError, UpstreamUnavailable
from app.ports.store import StoreReader
from app.querying.answer import END_OF_TIME_MS, Answer, KlineQuery, Shortfall
from app.querying.in_progress import InProgress
from app.querying.read_ahead import ReadAhead
from app.querying.read_through import Edge, ReadThrough, absent_within
from app.querying.refusal import RETRY_AFTER_S, refusal_of
from app.querying.tail_cut import LIVE_PAGE_MS, cut_of, newest, rendered
from app.querying.window import Window, closed_end_ms, window_of

ANSWER_S_MAX: Final = 50.0  # nginx gives up after 60 s: until then a client learns the reason from us
PARTIAL_S_MAX: Final = 5.0  # and so much more for what is held, where that is enough
TRIES_MAX: Final = 2  # an answer is made anew once when the exchange's time turns out to be another than we thought
INTERVALS_BEHIND_MAX: Final = 2  # one kline may close while an answer is made; by two it would be stale

HOLED_PAGE_MS: Final = 60_000
"""A page with a hole is made anew after this long: nobody tells when the exchange fills one that is not held."""

_Row = tuple[int, bytes]
"""An open time and the row as it is served."""


class _Found(NamedTuple):
    """What store and tail have: rows, ascending, and the times they know of."""

    rows: list[_Row]
    known: Spans
    absent: Spans


class _Read(NamedTuple):
    """The rows of an answer, ascending, and where the exchange has none between them."""

    rows: list[_Row]
    holes: tuple[Span, ...] = ()
    is_recorded: bool = True
    """Whether all holes are in the ledger; others are believed for a while only."""


class QueryService:
    """Answers klines queries."""

    def __init__(
        self,
        clock: Clock,
        store: StoreReader,
        upstream: ReadThrough,
        symbols: SymbolSync,
        holdings: LedgerCache,
        tail: Tail,
        *,
        in_progress: InProgress,
        stale_ms_max: int = 0,
    ) -> None:
        self._clock = clock
        self._store = store
        self._upstream = upstream
        self._symbols = symbols
        self._holdings = holdings
        self._tail = tail
        self._in_progress = in_progress
        self._stale_ms_max = stale_ms_max
        self.read_ahead = ReadAhead(clock, store, holdings)
        self.is_time_known: Callable[[], bool] = lambda: True
        """Whether the clock is the exchange's: one that lags would pass old klines off as the newest."""
        self.is_wished: Callable[[Series], bool] = lambda series: False
        """Whether a series is to be held."""

    def keeps(self, series: Series) -> bool:
        """Whether klines of a series are answered from what is held."""
        return self.is_wished(series) or bool(self._holdings.ledger(series).known)

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
        """The same as `symbol`. Raises BinanceError while nobody knows what is listed."""
        name = self.symbol(text)
        if name is None and not self._symbols.listings:
            raise service_unavailable(RETRY_AFTER_S, Reason.NOT_SYNCED)
        return name

    def at_once(self, query: KlineQuery, now_ms: int) -> Answer | None:
        """The answer if the tail has all of it and nobody has to be asked; `now_ms` is now."""
        series = query.series
        if not self.is_time_known() or not self._holdings.is_anchored(series):
            return None
        if series.symbol in self._holdings.doubted:
            return None
        tail = self._tail.get(series)
        if tail is None or not tail.rows:
            return None
        grid = self._holdings.grid(series)
        if (answer := newest(query, grid, tail, now_ms)) is not None:
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
        return cut.answer(live, now_ms)

    async def answer(self, query: KlineQuery) -> Answer:
        """The answer to `query`, whole unless it allows less. Raises BinanceError: 503 with Retry-After."""
        if query.series.symbol in self._holdings.doubted:
            # whose klines are held is being asked at this moment
            raise service_unavailable(RETRY_AFTER_S, Reason.NOT_SYNCED)
        deadline = asyncio.timeout(ANSWER_S_MAX)
        try:
            async with deadline:
                return await self._answer(query, TRIES_MAX)
        except (UpstreamError, TimeoutError) as error:
            is_late = deadline.expired()
            refusal = _too_slow() if is_late else refusal_of(error, self._clock.now_ms())
            if query.allow_partial and refusal.retry_after_s is not None and self._holdings.is_anchored(query.series):
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

    async def _answer(self, query: KlineQuery, tries: int) -> Answer:
        is_time_known = self.is_time_known()
        now_ms = self._clock.now_ms()
        grid = await self._grid(query.series)
        if grid is None:
            return Answer(b"[]", query.series, Span(0, END_OF_TIME_MS), False, now_ms + LIVE_PAGE_MS)
        tail = self._tail.get(query.series)
        window = window_of(query, grid, closed_end_ms(grid, tail, now_ms), now_ms)
        is_newest = self._is_newest(query.series, grid, window, is_time_known)
        if is_newest and (answer := await self._from_tail(query, grid, window, now_ms)) is not None:
            return answer
        first_ms = window.span.start_ms
        if (body := await self._from_history(query.series, grid, window)) is not None:
            return rendered(query, grid, window, first_ms, body, now_ms, is_live=False)
        read = await self._from_store(query.series, grid, window, tail)
        first_ms = min([first_ms, *(open_ms for open_ms, _ in read.rows[:1])])
        rows = [row for _, row in read.rows]
        if window.reaches_end(len(rows)) and not self._is_newest(query.series, grid, window, is_time_known):
            return await self._again(query, grid, tries)
        live = await self._live(query.series, grid, window, len(rows))
        if live == [] and window.newest and not self._upstream.is_trading(query.series):
            return await self._answer(query._replace(only_final=True), tries)  # it has no kline in progress any more
        rows += live or ()
        rows = rows[-query.limit :] if window.newest else rows[: query.limit]
        body = rest_rows.join(rows)
        answer = rendered(query, grid, window, first_ms, body, now_ms, is_live=live is not None)
        return _with_holes(answer, read, now_ms) if read.holes else answer

    async def _live(self, series: Series, grid: Grid, window: Window, rows: int) -> list[bytes] | None:
        """The kline in progress behind so many closed ones, and any that closed meanwhile; None when not asked for."""
        if (ahead := window.ahead_of(rows)) is None:
            return None
        return (await self._in_progress.rows(series, grid, window.closed_end_ms))[ahead]

    def _is_newest(self, series: Series, grid: Grid, window: Window, is_time_known: bool) -> bool:
        """Whether what the window ends with is the newest, by a clock that was right before and after it was read."""
        end_ms = closed_end_ms(grid, self._tail.get(series), self._clock.now_ms())
        return is_time_known and grid.count(window.closed_end_ms, end_ms) < INTERVALS_BEHIND_MAX

    async def _again(self, query: KlineQuery, grid: Grid, tries: int) -> Answer:
        """Answer anew once the exchange has told its time, as it does with every answer."""
        if tries > 1 and not self.is_time_known():
            await self._upstream.klines(query.series, grid, None, 1)
        if tries <= 1 or not self.is_time_known():
            raise UpstreamUnavailable(
                "it is not known what time it is at the exchange, so nor which kline is newest", Reason.CLOCK
            )
        return await self._answer(query, tries - 1)

    async def _grid(self, series: Series) -> Grid | None:
        """The series' grid, asked for when it is not known; None when the exchange has no kline to learn it from."""
        if self._holdings.is_anchored(series):
            return self._holdings.grid(series)
        newest = await self._upstream.klines(series, series.interval.grid, None, 1)
        if not newest:
            self._upstream.check_newest(series, series.interval.grid, self._clock.now_ms())
        return series.interval.anchored(newest[-1].open_ms) if newest else None

    # --- where it comes from ------------------------------------------------------------------------------------

    async def _from_tail(self, query: KlineQuery, grid: Grid, window: Window, now_ms: int) -> Answer | None:
        """The answer when the tail has all of it, made without touching the database and with one copy of its rows."""
        tail = self._tail.get(query.series)
        if tail is None or (cut := cut_of(query, grid, window, tail)) is None:
            return None
        was = (tail.start_ms, tail.end_ms)
        live = await self._live(query.series, grid, window, cut.rows)
        return cut.answer(live, now_ms) if (tail.start_ms, tail.end_ms) == was else None  # or one closed meanwhile

    async def _from_history(self, series: Series, grid: Grid, window: Window) -> bytes | None:
        """The body when everything asked for is held and nothing of it can be the newest: the database prints it."""
        start_ms, end_ms = window.span
        if not window.span or not window.limit:
            return None
        span = Span(start_ms, min(end_ms, grid.shift(start_ms, window.limit)))
        wanted = grid.count(*span)
        if window.reaches_end(wanted) or not self._holdings.ledger(series).held.covers(span):
            return None
        body = self.read_ahead.take(series, span)
        if body is None:
            found, body = await self._store.read_encoded(series, span, wanted)
            if found != wanted:
                return None  # some were let go of meanwhile
        if not window.newest and wanted == window.limit:
            self.read_ahead.served(series, grid, span)
        return body

    async def _from_store(self, series: Series, grid: Grid, window: Window, tail: SeriesTail | None) -> _Read:
        """The rows from store and tail, and from the exchange where nothing is known of a time asked for."""
        if not window.span or not window.limit:
            return _Read([])
        found = await self._printed(series, grid, window, tail) or await self._held(series, grid, window, tail)
        if window.newest:
            read = await self._newest(series, grid, window, found)
        else:
            read = await self._oldest(series, grid, window, found)
        rows = read.rows
        if window.reaches_end(len(rows)) and not self._is_proof_fresh(series, grid, window, found, rows):
            last = Span(_end_ms(rows, grid, window), window.closed_end_ms)
            await self._upstream.check_absent(series, grid, last)
        recorded = absent_within(found.absent, [open_ms for open_ms, _ in rows], grid)
        return _Read(rows, tuple(Spans([*read.holes, *recorded])), is_recorded=not read.holes)

    async def _printed(self, series: Series, grid: Grid, window: Window, tail: SeriesTail | None) -> _Found | None:
        """The newest rows when all of them are held: the tail's, and before them those that the database prints.

        Printing holds no interpreter lock. 500 rows: 0.63 ms in all; making klines of them and printing those 0.94 ms.
        """
        ledger, (start_ms, end_ms) = self._holdings.ledger(series), window.span
        known = ledger.known
        lacking = window.span
        if tail is not None and tail.rows:
            known |= Spans([Span(tail.start_ms, tail.end_ms)])
            lacking = Span(start_ms, min(end_ms, tail.start_ms))
            if tail.end_ms < end_ms:
                return None
        if not (window.newest and window.is_open_ended and lacking and ledger.held.covers(lacking)):
            return None
        ticket, wanted = self._tail.ticket(series), grid.count(*lacking)
        found, body = await self._store.read_encoded(series, lacking, wanted)
        if found != wanted or ticket != self._tail.ticket(series):
            return None  # some were let go of or replaced meanwhile
        read = EncodedRows.of_body(body)
        rows = list(read)
        if tail is not None and lacking.end_ms < end_ms:
            if tail.start_ms > lacking.end_ms:
                return None  # it grew meanwhile, and was cut
            rows += tail.rows[tail.index(lacking.end_ms) : tail.index(end_ms)]
        if self._tail.is_current():
            self._tail.seed(series, grid, read, lacking.end_ms, ticket)  # the next one needs no database
        return _Found(list(zip(grid.opens(*window.span), rows, strict=True)), known, ledger.absent)

    async def _held(self, series: Series, grid: Grid, window: Window, tail: SeriesTail | None) -> _Found:
        span = Span(0, window.span.end_ms) if window.newest else window.span
        ticket = self._tail.ticket(series)
        snapshot = await self._store.read(series, span, window.limit, newest=window.newest)
        known = snapshot.ledger.known
        read = [_row(series, kline, grid) for kline in snapshot.rows]
        rows = [(kline.open_ms, row) for kline, row in zip(snapshot.rows, read, strict=True)]
        if tail is not None and tail.rows:
            held = Span(tail.start_ms, tail.end_ms)
            known |= Spans([held])
            if newer := held.clip(span):
                encoded = tail.rows[tail.index(newer.start_ms) : tail.index(newer.end_ms)]
                before = [row for row in rows if row[0] < newer.start_ms]
                after = [row for row in rows if row[0] >= newer.end_ms]
                rows = [*before, *zip(grid.opens(*newer), encoded, strict=True), *after]
        is_tail = window.newest and window.is_open_ended and self._tail.is_current()
        is_unbroken = len(snapshot.rows) == window.limit > 0 and snapshot.rows[0].open_ms == window.span.start_ms
        if is_tail and is_unbroken:
            self._tail.seed(series, grid, EncodedRows(read), window.span.end_ms, ticket)
        return _Found(rows, known, snapshot.ledger.absent)

    async def _oldest(self, series: Series, grid: Grid, window: Window, held: _Found) -> _Read:
        start_ms, end_ms = window.span
        run = held.known.span_at(start_ms)
        known_end_ms = min(end_ms, run.end_ms) if run else start_ms
        found = [row for row in held.rows if row[0] < known_end_ms][: window.limit]
        lacking = window.limit - len(found)
        if known_end_ms >= end_ms or not lacking:
            return _Read(found)
        upstream, span = self._upstream, Span(known_end_ms, end_ms)
        more = await upstream.klines(series, grid, span, lacking)
        is_joined = bool(found) and found[-1][0] == grid.shift(grid.ceil(known_end_ms), -1)
        begin = Edge() if is_joined else await upstream.check_begin(series, grid, span, more)
        after_ms = known_end_ms if is_joined else None
        between = await upstream.holes_between(series, grid, more, after_ms=after_ms)
        is_short = len(more) < lacking and (more or begin == Edge())
        end = await self._check_end(series, grid, span, more, is_joined=is_joined) if is_short else Edge()
        await upstream.accept(series, grid, span, lacking, more)
        found += [(kline.open_ms, _row(series, kline, grid)) for kline in more]
        return _Read(found, (*begin.holes, *between, *end.holes))

    async def _newest(self, series: Series, grid: Grid, window: Window, held: _Found) -> _Read:
        end_ms = window.span.end_ms
        run = held.known.span_at(end_ms - 1)
        known_start_ms = run.start_ms if run else end_ms
        found = [row for row in held.rows if row[0] >= known_start_ms][-window.limit :]
        lacking = window.limit - len(found)
        start_ms = grid.ceil(max(0, grid.shift(grid.ceil(known_start_ms), -lacking)))
        if start_ms >= known_start_ms or not lacking:
            return _Read(found)
        upstream, span = self._upstream, Span(start_ms, known_start_ms)
        more = await upstream.klines(series, grid, span, lacking)
        begin = await upstream.check_begin(series, grid, span, more)
        before_ms = known_start_ms if run and found and found[0][0] == grid.ceil(known_start_ms) else None
        between = await upstream.holes_between(series, grid, more, before_ms=before_ms)
        is_open = before_ms is None and (more or begin == Edge())
        end = await self._check_end(series, grid, span, more, is_joined=False) if is_open else Edge()
        await upstream.accept(series, grid, span, lacking, more)
        ended_ms = begin.ended_ms if end.ended_ms is None else end.ended_ms
        holes = (*begin.holes, *between, *end.holes)
        has_more = bool(begin.holes) or ended_ms is not None or (bool(more) and more[0].open_ms == start_ms)
        if len(more) < lacking and has_more:  # klines that there are not do not count
            more, holes = await self._reach_back(series, grid, known_start_ms, lacking, ended_ms)
        return _Read([*((kline.open_ms, _row(series, kline, grid)) for kline in more), *found], holes)

    async def _reach_back(
        self, series: Series, grid: Grid, end_ms: int, limit: int, ended_ms: int | None
    ) -> tuple[Sequence[Any], tuple[Span, ...]]:
        """The last `limit` klines before `end_ms` over every hole, with the holes; `ended_ms`: where the klines end."""
        upstream = self._upstream
        more = await upstream.newest_before(series, grid, end_ms, limit)
        before_ms = grid.ceil(end_ms) if ended_ms is None else ended_ms
        holes = await upstream.holes_between(series, grid, more, before_ms=before_ms)
        if len(more) < limit:
            await upstream.check_begin(series, grid, Span(0, end_ms), more)
        return more, holes

    async def _check_end(self, series: Series, grid: Grid, span: Span, more: Sequence[Row], *, is_joined: bool) -> Edge:
        """How `span` ends. Raises UpstreamGarbage when the exchange must have more klines there."""
        last = Span(grid.shift(more[-1].open_ms, 1) if more else span.start_ms, span.end_ms)
        if self._holdings.ledger(series).absent.covers(last):
            return Edge()
        return await self._upstream.check_end(series, grid, last, more, is_begun=bool(more) or is_joined)

    def _is_proof_fresh(self, series: Series, grid: Grid, window: Window, found: _Found, rows: list[_Row]) -> bool:
        """Whether the answer may end where it does: also a proof that there is nothing newer becomes stale."""
        end_ms = _end_ms(rows, grid, window)
        if not grid.count(end_ms, window.closed_end_ms) or not found.absent.covers(Span(end_ms, window.closed_end_ms)):
            return True  # nothing is lacking, or the exchange was asked just now
        if not self._upstream.is_trading(series):
            return True
        return self._clock.now_ms() < stale_at_ms(grid, end_ms, self._stale_ms_max)

    # --- less than the whole --------------------------------------------------------------------------------------

    async def _partial(self, query: KlineQuery) -> Answer:
        """What is held of what is asked for, counted over what is held. Raises StoreUnavailable."""
        series, now_ms = query.series, self._clock.now_ms()
        grid, tail = self._holdings.grid(series), self._tail.get(series)
        window = window_of(query, grid, closed_end_ms(grid, tail, now_ms), now_ms)
        held = await self._held(series, grid, window, tail) if window.span else _Found([], Spans(), Spans())
        rows = held.rows[max(0, len(held.rows) - window.limit) :] if window.newest else held.rows[: window.limit]
        is_full = len(rows) == window.limit
        start_ms, end_ms = window.span
        if window.newest and rows:
            start_ms = rows[0][0] if is_full else min(start_ms, rows[0][0])
        elif rows and is_full:
            end_ms = grid.shift(rows[-1][0], 1)
        known, reaches_end = held.known, window.reaches_end(len(rows))
        is_newest_known = not reaches_end or (
            self.is_time_known() and self._is_proof_fresh(series, grid, window, held, rows)
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
        is_whole = not missing and is_newest_known  # what lacked has come meanwhile
        return Answer(body, series, asked, False, now_ms, None if is_whole else shortfall)


def _too_slow() -> BinanceError:
    return service_unavailable(RETRY_AFTER_S, Reason.SLOW)


def _row(series: Series, row: Row, grid: Grid) -> bytes:
    return series.kind.encode(row, grid.shift(row.open_ms, 1) - 1)


def _with_holes(answer: Answer, read: _Read, now_ms: int) -> Answer:
    """An answer that names its holes."""
    until_ms = answer.valid_until_ms if read.is_recorded else min(answer.valid_until_ms, now_ms + HOLED_PAGE_MS)
    return answer._replace(holes=read.holes, valid_until_ms=until_ms)


def _end_ms(rows: list[_Row], grid: Grid, window: Window) -> int:
    """Where the rows end; without any, where they should begin."""
    return grid.shift(rows[-1][0], 1) if rows else window.span.start_ms
