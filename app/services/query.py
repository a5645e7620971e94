"""The query service: whole answers from the tail, the store and, for what neither holds, one upstream request.

An answer is a run of open times that are all known: held, or proven absent. Where the run meets a time nothing is
known of, the exchange is asked for the rest (READ_THROUGH), or the answer is an error in Binance's shape. The kline in
progress ends the answer when it was asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.domain.interval import M1, Grid
from app.domain.kline import Kline
from app.domain.span import Span, Spans
from app.ports import (
    Clock,
    Priority,
    RestApi,
    Series,
    StandDown,
    StoreReader,
    StoreUnavailable,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRejected,
    UpstreamUnavailable,
)
from app.services.answer import END_OF_TIME_MS, Answer, KlineQuery
from app.services.holdings import Holdings
from app.services.rolling import Rolling
from app.services.symbol_sync import SymbolSync
from app.services.tail import Live, SeriesTail, Tail
from app.services.wish import CLOSE_GRACE_MS
from app.wire import rest_rows
from app.wire.error_body import invalid_symbol, service_unavailable

LIVE_AGE_MS_MAX: Final = 10_000  # a live kline asked for by REST is good this long when no frame moves it
LIVE_PAGE_MS: Final = 1_000  # an answer that ends with a live kline is rendered anew after this long at the latest
CLOSING_PAGE_MS: Final = 250  # while a closing frame is awaited, an answer is good this long
FOLLOWER_PAGE_MS: Final = 1_000  # a process that does not write hears of changes by reading again after this long
READS_AT_ONCE_MAX: Final = 64  # read-throughs under way; more would queue for weight longer than clients wait
READ_THROUGH_S_MAX: Final = 20.0
RETRY_AFTER_S: Final = 5

_Row = tuple[int, bytes]
"""An open time and the row as it is served."""

Keep = Callable[[Series, Grid, Span, Sequence[Kline]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Window:
    """Closed klines to answer with: at most `limit` that open in `span`, the oldest or the newest of them.

    The newest ones may reach back further than `span`, by as many klines as the exchange does not have inside it.
    """

    span: Span
    limit: int
    newest: bool
    is_open_ended: bool
    closed_end_ms: int


class QueryService:
    """Answers klines queries."""

    def __init__(
        self,
        clock: Clock,
        store: StoreReader,
        rest: RestApi,
        symbols: SymbolSync,
        holdings: Holdings,
        tail: Tail,
        rolling: Rolling,
        *,
        read_through: bool,
    ) -> None:
        self._clock = clock
        self._store = store
        self._rest = rest
        self._symbols = symbols
        self._holdings = holdings
        self._tail = tail
        self._rolling = rolling
        self._read_through = read_through
        self._flights: dict[tuple[Series, Span | None, int], asyncio.Future[list[Kline]]] = {}
        self.keep: Keep | None = None
        """Commits klines that were read through; only the writer has one."""

    def symbol(self, text: str) -> str | None:
        """The listed name of a symbol as a client wrote it (lower case is accepted), or None."""
        name = text.upper()
        if name in self._symbols.listings or name in self._symbols.wished_set or name in self._holdings.symbols():
            return name
        return None

    async def answer(self, query: KlineQuery) -> Answer:
        """The whole answer to `query`. Raises BinanceError: 503 with Retry-After when it cannot be whole right now."""
        try:
            return await self._answer(query)
        except StandDown as error:
            wait_s = max(1, (error.until_ms - self._clock.now_ms() + 999) // 1000)
            raise service_unavailable(min(wait_s, 3600)) from error
        except UpstreamRejected as error:
            if error.code == invalid_symbol().code:
                raise invalid_symbol() from error
            raise service_unavailable(RETRY_AFTER_S) from error
        except (UpstreamError, StoreUnavailable, TimeoutError) as error:
            raise service_unavailable(RETRY_AFTER_S) from error

    async def _answer(self, query: KlineQuery) -> Answer:
        now_ms = self._clock.now_ms()
        grid = await self._grid(query.series)
        if grid is None:
            return Answer(b"[]", query.series, Span(0, END_OF_TIME_MS), False, now_ms + LIVE_PAGE_MS)
        tail = self._tail.get(query.series)
        window = self._window(query, grid, self._closed_end_ms(grid, tail, now_ms))
        first_ms = window.span.start_ms
        rows = self._from_tail(window, tail)
        if rows is None:
            found = await self._from_store(query.series, grid, window, tail)
            first_ms = min([first_ms, *(open_ms for open_ms, _ in found[:1])])
            rows = [row for _, row in found]
        is_live = self._wants_live(query, window.closed_end_ms) and (window.newest or len(rows) < query.limit)
        if is_live:
            end_ms = END_OF_TIME_MS if query.end_ms is None else query.end_ms + 1
            rows = [*rows, *await self._live(query.series, grid, Span(window.closed_end_ms, end_ms), now_ms)]
            rows = rows[-query.limit :] if window.newest else rows[: query.limit]
        return self._rendered(query, grid, window, first_ms, rows, now_ms, is_live=is_live)

    # --- what is asked for --------------------------------------------------------------------------------------

    async def _grid(self, series: Series) -> Grid | None:
        """The series' grid, asked for when it is not known; None when the exchange has no kline to learn it from."""
        if self._holdings.is_anchored(series):
            return self._holdings.grid(series)
        newest = await self._upstream(series, series.interval.grid, None, 1)
        return series.interval.anchored(newest[-1].open_ms) if newest else None

    def _closed_end_ms(self, grid: Grid, tail: SeriesTail | None, now_ms: int) -> int:
        """Where the closed klines end: those that are due, and any that came sooner."""
        due_ms = grid.floor(now_ms - CLOSE_GRACE_MS)
        return max(due_ms, tail.end_ms) if tail and tail.rows and tail.end_ms <= grid.floor(now_ms + 1000) else due_ms

    def _wants_live(self, query: KlineQuery, closed_end_ms: int) -> bool:
        if query.only_final:
            return False
        if query.start_ms is not None and query.start_ms > closed_end_ms:
            return False
        return query.end_ms is None or query.end_ms >= closed_end_ms

    def _window(self, query: KlineQuery, grid: Grid, closed_end_ms: int) -> _Window:
        end_ms = closed_end_ms
        if query.end_ms is not None:
            end_ms = min(end_ms, grid.ceil(query.end_ms + 1))
        is_open_ended = end_ms == closed_end_ms
        if query.start_ms is None:
            limit = query.limit - 1 if self._wants_live(query, closed_end_ms) else query.limit
            start_ms = grid.ceil(max(0, grid.shift(end_ms, -limit)))
            return _Window(Span(start_ms, max(start_ms, end_ms)), limit, True, is_open_ended, closed_end_ms)
        start_ms = grid.ceil(query.start_ms)
        span = Span(start_ms, max(start_ms, end_ms))
        return _Window(span, query.limit, False, is_open_ended, closed_end_ms)

    # --- where it comes from ------------------------------------------------------------------------------------

    def _from_tail(self, window: _Window, tail: SeriesTail | None) -> list[bytes] | None:
        """The rows when the tail has all of them, without touching the database."""
        start_ms, end_ms = window.span
        if not window.span:
            return []
        if tail is None or not tail.rows or start_ms < tail.start_ms or end_ms > tail.end_ms:
            return None
        rows = tail.rows[tail.index(start_ms) : tail.index(end_ms)]
        return rows[-window.limit :] if window.newest else rows[: window.limit]

    async def _from_store(self, series: Series, grid: Grid, window: _Window, tail: SeriesTail | None) -> list[_Row]:
        """The rows from store and tail, and from the exchange where nothing is known of a time asked for."""
        if not window.span or not window.limit:
            return []
        span = Span(0, window.span.end_ms) if window.newest else window.span
        snapshot = await self._store.read(series, span, window.limit, newest=window.newest)
        known = snapshot.ledger.known
        rows = [(kline.open_ms, _row(kline, grid)) for kline in snapshot.rows]
        if tail is not None and tail.rows:
            held = Span(tail.start_ms, tail.end_ms)
            known |= Spans([held])
            if newer := held.clip(span):
                encoded = tail.rows[tail.index(newer.start_ms) : tail.index(newer.end_ms)]
                before = [row for row in rows if row[0] < newer.start_ms]
                after = [row for row in rows if row[0] >= newer.end_ms]
                rows = [*before, *zip(grid.opens(*newer), encoded, strict=True), *after]
        is_tail = window.newest and window.is_open_ended and self.keep is not None
        is_unbroken = len(snapshot.rows) == window.limit and snapshot.rows[0].open_ms == window.span.start_ms
        if is_tail and is_unbroken:
            self._tail.seed(series, grid, snapshot.rows, window.span.end_ms)  # the next one needs no database
        if window.newest:
            return await self._newest(series, grid, window, known, rows)
        return await self._oldest(series, grid, window, known, rows)

    async def _oldest(self, series: Series, grid: Grid, window: _Window, known: Spans, rows: list[_Row]) -> list[_Row]:
        start_ms, end_ms = window.span
        run = known.span_at(start_ms)
        known_end_ms = min(end_ms, run.end_ms) if run else start_ms
        found = [row for row in rows if row[0] < known_end_ms][: window.limit]
        lacking = window.limit - len(found)
        if known_end_ms < end_ms and lacking:
            more = await self._upstream(series, grid, Span(known_end_ms, end_ms), lacking)
            is_joined = bool(found) and found[-1][0] == grid.shift(grid.ceil(known_end_ms), -1)
            if not is_joined:
                await self._check_begin(series, grid, Span(known_end_ms, end_ms), more)
            self._check_unbroken(series, grid, known, more, after_ms=known_end_ms if is_joined else None)
            found += [(kline.open_ms, _row(kline, grid)) for kline in more]
        return found

    async def _newest(self, series: Series, grid: Grid, window: _Window, known: Spans, rows: list[_Row]) -> list[_Row]:
        end_ms = window.span.end_ms
        run = known.span_at(end_ms - 1)
        known_start_ms = run.start_ms if run else end_ms
        found = [row for row in rows if row[0] >= known_start_ms][-window.limit :]
        lacking = window.limit - len(found)
        start_ms = grid.ceil(max(0, grid.shift(grid.ceil(known_start_ms), -lacking)))
        if start_ms < known_start_ms and lacking:
            more = await self._upstream(series, grid, Span(start_ms, known_start_ms), lacking)
            await self._check_begin(series, grid, Span(start_ms, known_start_ms), more)
            self._check_unbroken(series, grid, known, more, before_ms=known_start_ms if run else None)
            found = [(kline.open_ms, _row(kline, grid)) for kline in more] + found
        return found

    async def _check_begin(self, series: Series, grid: Grid, span: Span, klines: Sequence[Kline]) -> None:
        """Raise UpstreamGarbage when what the exchange gave begins late although there are klines before `span`."""
        late = Span(span.start_ms, klines[0].open_ms if klines else span.end_ms)
        if not late or self._holdings.ledger(series).absent.covers(late):
            return
        before = Span(0, span.start_ms)
        if before and await self._upstream(series, grid, before, 1):
            raise UpstreamGarbage(f"{series.symbol} {series.interval}: REST's answer lacks the first klines asked for")

    def _check_unbroken(
        self,
        series: Series,
        grid: Grid,
        known: Spans,
        klines: Sequence[Kline],
        *,
        after_ms: int | None = None,
        before_ms: int | None = None,
    ) -> None:
        """Raise UpstreamGarbage where klines that the exchange gave lack some between them, or next to what is held."""
        if not klines:
            return
        holes = [Span(grid.shift(one.open_ms, 1), other.open_ms) for one, other in pairwise(klines)]
        if after_ms is not None:
            holes.append(Span(after_ms, klines[0].open_ms))
        if before_ms is not None:
            holes.append(Span(grid.shift(klines[-1].open_ms, 1), before_ms))
        known |= self._holdings.ledger(series).known
        if any(grid.count(*hole) and not known.covers(hole) for hole in holes):
            raise UpstreamGarbage(f"{series.symbol} {series.interval}: klines are missing from REST's answer")

    async def _live(self, series: Series, grid: Grid, span: Span, now_ms: int) -> list[bytes]:
        """The kline in progress, which opens at the begin of `span` as far as we know.

        When the exchange turns out to be a kline further, both: the one that has closed and the one in progress.
        """
        open_ms, end_ms = span
        live = self._known_live(series, open_ms, now_ms)
        if live is not None:
            return [_row(live, grid)]
        newest = [kline for kline in await self._upstream(series, grid, None, 2) if kline.open_ms >= open_ms]
        if newest:
            self._tail.set_live(series, grid, Live(newest[-1], now_ms, from_socket=False))
            self._check_unbroken(series, grid, Spans(), newest, after_ms=open_ms)
        return [_row(kline, grid) for kline in newest if kline.open_ms < end_ms]

    def _known_live(self, series: Series, open_ms: int, now_ms: int) -> Kline | None:
        tail = self._tail.get(series)
        live = tail.live if tail else None
        if live is not None and live.kline.open_ms == open_ms and _is_fresh(live, now_ms):
            return live.kline
        if series.interval not in self._rolling.intervals:
            return None
        minutes = self._tail.get(Series(series.symbol, M1))
        if minutes is None or minutes.end_ms < M1.grid.floor(now_ms - CLOSE_GRACE_MS):
            return None
        minute = minutes.live.kline if minutes.live and _is_fresh(minutes.live, now_ms) else None
        if minute is None and now_ms - minutes.end_ms > LIVE_AGE_MS_MAX:
            return None
        return self._rolling.live(series.symbol, series.interval, minute, open_ms, minutes.end_ms)

    # --- read-through -------------------------------------------------------------------------------------------

    async def _upstream(self, series: Series, grid: Grid, span: Span | None, limit: int) -> list[Kline]:
        """Ask the exchange, once for all who wait for the same; what it gives is kept. Raises UpstreamError."""
        if not self._read_through:
            raise UpstreamUnavailable(f"{series.symbol} {series.interval} is not held there; READ_THROUGH is off")
        key = (series, span, limit)
        while (flight := self._flights.get(key)) is not None:
            try:
                return await asyncio.shield(flight)
            except asyncio.CancelledError:
                if not flight.cancelled() or _is_cancelled():
                    raise  # it is us who are cancelled; otherwise the one who asked was, and we ask ourselves
        if len(self._flights) >= READS_AT_ONCE_MAX:
            raise UpstreamUnavailable(f"{READS_AT_ONCE_MAX} read-throughs are under way already")
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(READ_THROUGH_S_MAX):
                klines = await self._rest.klines(series, grid, span, limit, Priority.USER)
                if self.keep is not None and span is not None:
                    await self.keep(series, grid, span, klines)
            flight.set_result(klines)
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # nobody may be waiting for it
            raise
        finally:
            del self._flights[key]
            if not flight.done():
                flight.cancel()
        return klines

    # --- the page -----------------------------------------------------------------------------------------------

    def _rendered(
        self,
        query: KlineQuery,
        grid: Grid,
        window: _Window,
        first_ms: int,
        rows: list[bytes],
        now_ms: int,
        *,
        is_live: bool,
    ) -> Answer:
        valid_until_ms = END_OF_TIME_MS
        if window.is_open_ended:
            closes_ms = grid.shift(window.closed_end_ms, 1)
            valid_until_ms = closes_ms if closes_ms > now_ms else now_ms + CLOSING_PAGE_MS
        if is_live:
            valid_until_ms = min(valid_until_ms, now_ms + LIVE_PAGE_MS)
        if self.keep is None:
            valid_until_ms = min(valid_until_ms, now_ms + FOLLOWER_PAGE_MS)
        touches = Span(first_ms, END_OF_TIME_MS if window.is_open_ended else window.span.end_ms)
        return Answer(rest_rows.join(rows), query.series, touches, is_live, valid_until_ms)


def _row(kline: Kline, grid: Grid) -> bytes:
    return rest_rows.encode(kline, grid.shift(kline.open_ms, 1) - 1)


def _is_fresh(live: Live, now_ms: int) -> bool:
    return live.from_socket or now_ms - live.heard_ms <= LIVE_AGE_MS_MAX


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
