"""Bars for charts: held klines of a span, thinned to as many as a chart can draw, with marks for what is not plain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from app.domain.columns import EMPTY, Columns
from app.domain.interval import DAY_MS, Grid
from app.domain.rolling_windows import Windows, rolled
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.ports.clock import ConfirmedClock
from app.ports.errors import StoreUnavailable
from app.querying.answer import LIMIT_MAX, Answer, KlineQuery
from app.querying.held_rows import Held, held_rows
from app.querying.lacking import held_of, known_of
from app.querying.refusal import refusal_of
from app.querying.tail_cut import CLOSING_PAGE_MS
from app.querying.turns import Turns
from app.querying.window import closed_end_ms

BARS_DEFAULT: Final = 1_500
BARS_MAX: Final = 20_000  # more in one chart stall the browser, and no screen has as many columns
ROWS_MAX: Final = 60_000  # klines behind an answer: six weeks of minutes, a second of a core and 60 MB
MARKS_MAX: Final = 1_000  # spans or revisions of one sort; `omitted` counts the others
MARKED_PAGE_MS: Final = 60_000  # a dispute is recorded without a word to the page cache, so pages are made again
BAR_COLUMNS: Final = ("time", "open", "high", "low", "close", "volume", "trades")
_PLACES: Final = (0, 1, 2, 3, 4, 5, 7)  # of BAR_COLUMNS among the columns of a kline

Revised = Callable[[Series, Span, int], Awaitable[list[int]]]
"""At most so many open times (ms) in a span of which a kline was ever replaced. Raises StoreUnavailable."""


class BarsQuery(NamedTuple):
    """At most `bars` bars of a series, of the klines that open from `start_ms` to `end_ms`; None: the newest ones.

    Each bar is made of at least `stride` klines, which is 1 where the series cannot be thinned.
    """

    series: Series
    start_ms: int | None
    end_ms: int | None
    bars: int
    stride: int = 1


class Plan(NamedTuple):
    """The span that bars are made of, and how many klines each of them has; `is_newest`: more may close behind it."""

    span: Span
    stride: int
    is_newest: bool


class Bars:
    """Answers queries for bars from held klines alone, a few at a time (`Turns`)."""

    def __init__(self, clock: ConfirmedClock, ledgers: LedgerCache, tail: Tail, held: Held, revised: Revised) -> None:
        self._clock = clock
        self._ledgers = ledgers
        self._tail = tail
        self._held = held
        self._revised = revised
        self._turns = Turns()

    async def answer(self, query: BarsQuery) -> Answer:
        """The answer to `query`, a JSON object of columns. Raises BinanceError."""
        async with self._turns.turn():
            return await self._answer(query)

    def rows(self, query: BarsQuery) -> int:
        """How many klines the answer would be made of, if all are held; callers refuse more than ROWS_MAX."""
        return self._ledgers.grid(query.series).count(*self._plan(query).span)

    def bars_beyond(self, query: BarsQuery) -> int:
        """How many bars the answer would have if those are more than `query.bars`, else 0; thinned bars never are."""
        if can_thin(query.series):
            return 0
        grid = self._ledgers.grid(query.series)
        held = held_of(self._ledgers, self._tail, query.series).clip(self._plan(query).span)
        number = sum(grid.count(*span) for span in held)
        return number if number > query.bars else 0

    def _plan(self, query: BarsQuery) -> Plan:
        grid = self._ledgers.grid(query.series)
        return plan_of(query, grid, closed_end_ms(grid, self._tail.get(query.series), self._clock.now_ms()))

    async def _answer(self, query: BarsQuery) -> Answer:
        now_ms, series, plan = self._clock.now_ms(), query.series, self._plan(query)
        grid, span = self._ledgers.grid(series), plan.span
        known, rows = self._known(series), EMPTY
        if span:
            asked = KlineQuery(series, span.start_ms, span.end_ms - 1, LIMIT_MAX, only_final=True, allow_partial=True)
            rows = await held_rows(self._held, self._clock, asked)
        try:
            revised = await self._revised(series, span, MARKS_MAX + 1) if span else []
        except StoreUnavailable as error:
            raise refusal_of(error, now_ms) from error
        # what was not known before or is not known after the read may be missing from the rows
        missing = (known & self._known(series)).complement(span) if span else Spans()
        marks = self._marks(series, span, missing, revised)
        marks["first"] = self._first_ms(series)
        body = await asyncio.to_thread(_printed, rows, plan, series, marks)
        until_ms = now_ms + MARKED_PAGE_MS
        if plan.is_newest:
            until_ms = min(until_ms, max(now_ms + CLOSING_PAGE_MS, grid.shift(span.end_ms, 1)))
        return Answer(body, series, span, False, until_ms)

    def _known(self, series: Series) -> Spans:
        return known_of(self._ledgers, self._tail, series)

    def _first_ms(self, series: Series) -> int | None:
        """The open time of the oldest held kline of a series, None without any."""
        held = held_of(self._ledgers, self._tail, series)
        return held.hull.start_ms if held else None

    def _marks(self, series: Series, span: Span, missing: Spans, revised: list[int]) -> dict[str, object]:
        """What is absent, missing, disputed and revised in `span`, at most MARKS_MAX of each."""
        found = self._ledgers.disagreements(series).values()
        disputed = Spans(Span(each.open_ms, each.other.grid.shift(each.open_ms, 1)) for each in found).clip(span)
        absent = self._ledgers.ledger(series).absent.clip(span)
        sorts: dict[str, Sequence[object]] = {
            "absent": list(absent),
            "missing": list(missing),
            "disputed": list(disputed),
            "revised": revised,
        }
        marks: dict[str, object] = {name: each[:MARKS_MAX] for name, each in sorts.items()}
        marks["omitted"] = any(len(each) > MARKS_MAX for each in sorts.values())
        return marks


def plan_of(query: BarsQuery, grid: Grid, closed_ms: int) -> Plan:
    """The plan of `query` when klines are closed up to `closed_ms`.

    Bars of several klines begin at multiples of their length since 1970-01-01 UTC, so that answers that meet fit
    together: the span is widened to whole bars. Only the newest bar may lack klines, those that have not closed.
    """
    asked_ms = closed_ms if query.end_ms is None else grid.ceil(query.end_ms + 1)
    end_ms = min(asked_ms, closed_ms)
    bars, bar_ms = query.bars if can_thin(query.series) else min(query.bars, LIMIT_MAX), query.stride * grid.step_ms
    if query.start_ms is not None:
        start_ms = grid.ceil(query.start_ms)
    elif can_thin(query.series):
        start_ms = max(0, _widened(Span(end_ms, end_ms), bar_ms).end_ms - bars * bar_ms)
    else:
        start_ms = max(0, grid.shift(end_ms, -bars))
    is_newest = query.end_ms is None or asked_ms > closed_ms
    number = grid.count(start_ms, end_ms)
    stride = max(query.stride, -(-number // bars))
    if stride == 1 or not can_thin(query.series):
        return Plan(Span(start_ms, max(start_ms, end_ms)), 1, is_newest)
    while (span := _widened(Span(start_ms, end_ms), stride * grid.step_ms)) and _bars_in(span, stride, grid) > bars:
        stride += 1  # the ends of the span lie inside of bars
    return Plan(Span(span.start_ms, min(closed_ms, span.end_ms)), stride, is_newest)


def can_thin(series: Series) -> bool:
    """Whether klines of a series add up to bars of any number of them: those of days and less."""
    return series.interval.grid.step_ms <= DAY_MS


def _widened(span: Span, step_ms: int) -> Span:
    return Span(span.start_ms // step_ms * step_ms, -(-span.end_ms // step_ms) * step_ms)


def _bars_in(span: Span, stride: int, grid: Grid) -> int:
    return grid.count(*span) // stride


def _printed(rows: Columns, plan: Plan, series: Series, marks: dict[str, object]) -> bytes:
    """The body of the answer."""
    step_ms = series.interval.grid.step_ms * plan.stride
    if plan.stride > 1:
        number = -(-(plan.span.end_ms - plan.span.start_ms) // step_ms)
        rows = rolled(rows, Windows(plan.span.start_ms, step_ms, step_ms, number))
    columns = dict(zip(BAR_COLUMNS, (rows.columns[each] for each in _PLACES), strict=True))
    answer = {
        "symbol": series.symbol,
        "kind": series.kind.name,
        "interval": series.interval.code,
        "step": step_ms,
        "start": plan.span.start_ms,
        "end": plan.span.end_ms,
        "bars": columns,
    }
    return msgspec.json.encode(answer | marks)
