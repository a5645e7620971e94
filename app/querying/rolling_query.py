"""Answers queries for rolling windows from held minutes: whole, or refused with the spans that are missing."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from app.binance import rest_rows
from app.binance.error_body import service_unavailable
from app.domain.columns import Columns
from app.domain.interval import M1, MINUTE_MS, FixedGrid
from app.domain.reason import Reason
from app.domain.rolling_windows import Windows, rolled
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.kinds.klines import KLINES
from app.ports.clock import ConfirmedClock
from app.querying.answer import END_OF_TIME_MS, LIMIT_DEFAULT, LIMIT_MAX, Answer, KlineQuery
from app.querying.held_rows import Held, held_rows
from app.querying.lacking import known_of, refusal_of_lacking
from app.querying.refusal import RETRY_AFTER_S
from app.querying.tail_cut import CLOSING_PAGE_MS
from app.querying.turns import Turns
from app.querying.window import closed_end_ms

MINUTES_MAX: Final = 50_000  # five weeks: 20 MB while they are rolled up, and a tenth of a second of a thread
SPANS_NAMED_MAX: Final = 4  # missing spans in a refusal


class RollingQuery(NamedTuple):
    """Windows of `length_ms` that begin at multiples of `step_ms`, not before `start_ms` and not after `end_ms`.

    With `start_ms` the oldest `limit`, else the newest. Without a `limit`: LIMIT_DEFAULT, or as many as may be.
    Windows that lie wholly in a time proven absent have no row and do not count.
    """

    symbol: str
    length_ms: int
    step_ms: int
    start_ms: int | None = None
    end_ms: int | None = None
    limit: int | None = None

    @property
    def series(self) -> Series:
        """The minutes that the windows are made of."""
        return Series(KLINES, self.symbol, M1)

    @property
    def windows_max(self) -> int:
        """How many windows one answer can have: at most LIMIT_MAX, made of at most MINUTES_MAX minutes."""
        return min(LIMIT_MAX, 1 + (MINUTES_MAX * MINUTE_MS - self.length_ms) // self.step_ms)


class Chosen(NamedTuple):
    """The windows of an answer, as ascending runs with a proven absence between them."""

    runs: list[Windows]
    touches: Span
    """The open times of minutes on which the choice depends."""
    is_newest: bool
    """Whether the next window to end would be among them."""


class RollingKlines:
    """Answers rolling queries, a few at a time (`Turns`)."""

    def __init__(
        self, clock: ConfirmedClock, ledgers: LedgerCache, tail: Tail, held: Held, wish: Callable[[], Wish]
    ) -> None:
        """`wish` returns the current wish."""
        self._clock = clock
        self._ledgers = ledgers
        self._tail = tail
        self._held = held
        self._wish = wish
        self._turns = Turns()

    async def answer(self, query: RollingQuery) -> Answer:
        """The answer to `query`. Raises BinanceError: 503 when a window would not be whole."""
        async with self._turns.turn():
            return await self._answer(query)

    async def _answer(self, query: RollingQuery) -> Answer:
        now_ms, series = self._clock.now_ms(), query.series
        closed_ms = closed_end_ms(M1.grid, self._tail.get(series), now_ms)
        runs, touches, is_newest = windows_of(query, closed_ms, self._ledgers.ledger(series).absent)
        span = Span(runs[0].first_ms, runs[-1].end_ms) if runs else None
        valid_until_ms = END_OF_TIME_MS
        if is_newest:
            if not self._clock.is_trusted:
                raise service_unavailable(RETRY_AFTER_S, Reason.CLOCK)
            valid_until_ms = max(now_ms + CLOSING_PAGE_MS, span.end_ms + query.step_ms if span else 0)
        if span is None:
            return Answer(b"[]", series, touches, False, valid_until_ms)
        self._refuse_lacking(series, span)
        minutes = await self._minutes(series, span)
        body = await asyncio.to_thread(_printed, minutes, runs)
        return Answer(body, series, touches, False, valid_until_ms)

    def _refuse_lacking(self, series: Series, span: Span) -> None:
        """Raise BinanceError (503) if it is unknown whether there are minutes somewhere in `span`."""
        lacking = known_of(self._ledgers, self._tail, series).complement(span)
        if missing := list(lacking):
            named = ", ".join(f"{each.start_ms}-{each.end_ms}" for each in missing[:SPANS_NAMED_MAX])
            more = f" and {len(missing) - SPANS_NAMED_MAX} more spans" if len(missing) > SPANS_NAMED_MAX else ""
            refusal = refusal_of_lacking(self._wish(), series, M1.grid, lacking, self._clock.now_ms())
            advice = (
                "they are not wished, so waiting does not help"
                if refusal.retry_after_s is None
                else "or wait until /v1/coverage shows them as held"
            )
            refusal.msg = (
                f"The windows need minutes of {series.symbol} that are not held: open times {named}{more}. "
                f"Ask for windows beside them; {advice}."
            )
            raise refusal

    async def _minutes(self, series: Series, span: Span) -> Columns:
        """All minutes that open in `span`. Raises BinanceError."""
        query = KlineQuery(series, span.start_ms, span.end_ms - 1, LIMIT_MAX, only_final=True)
        return await held_rows(self._held, self._clock, query)


def windows_of(query: RollingQuery, closed_ms: int, absent: Spans) -> Chosen:
    """The windows of `query` that end by `closed_ms`, without those that lie wholly in one of the spans `absent`."""
    grid = FixedGrid(query.step_ms)
    newest_ms = grid.floor(closed_ms - query.length_ms)
    last_ms = newest_ms if query.end_ms is None else min(newest_ms, grid.floor(query.end_ms))
    first_ms = 0 if query.start_ms is None else grid.ceil(query.start_ms)
    within = Span(first_ms, max(first_ms, last_ms + query.length_ms))
    rowless = Spans(
        (grid.ceil(start_ms), grid.floor(end_ms - query.length_ms) + query.step_ms)
        for start_ms, end_ms in absent.clip(within)
    )
    runs = _runs(query, rowless.complement(Span(first_ms, last_ms + query.step_ms)))
    is_open_ended = query.end_ms is None or query.end_ms >= newest_ms + query.step_ms
    if query.start_ms is None:
        return Chosen(runs, within._replace(start_ms=runs[0].first_ms) if runs else within, is_open_ended)
    if sum(run.number for run in runs) < _limit(query):
        return Chosen(runs, within, is_open_ended)
    return Chosen(runs, within._replace(end_ms=runs[-1].end_ms), False)


def _limit(query: RollingQuery) -> int:
    return min(LIMIT_DEFAULT if query.limit is None else query.limit, query.windows_max)


def _runs(query: RollingQuery, begins: Spans) -> list[Windows]:
    """The oldest, or without `query.start_ms` the newest, of the windows that begin at the multiples in `begins`."""
    runs: list[Windows] = []
    left, is_newest = _limit(query), query.start_ms is None
    for start_ms, end_ms in reversed(begins) if is_newest else begins:
        if not left:
            break
        number = min(left, (end_ms - start_ms) // query.step_ms)
        first_ms = end_ms - number * query.step_ms if is_newest else start_ms
        runs.append(Windows(first_ms, query.length_ms, query.step_ms, number))
        left -= number
    return runs[::-1] if is_newest else runs


def _printed(minutes: Columns, runs: list[Windows]) -> bytes:
    """The body of the answer."""
    reach_ms = runs[0].length_ms - 1
    return rest_rows.join(KLINES.encode(kline, kline.open_ms + reach_ms) for kline in rolled(minutes, *runs))
