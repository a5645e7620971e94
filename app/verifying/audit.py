"""Auditing: held klines against the exchange's own daily ones, narrowed down and mended where they differ.

One `1d` request covers 499 days of a symbol. A day of any shorter interval is right when its klines add up to the
exchange's daily one, in every column. Where they do not, `1h` klines say in which hours, only those are fetched anew,
and the store keeps the replaced rows as revisions. What still does not add up then is the exchange contradicting
itself: recorded once, and not fetched again while both sides stay as they are.

What no whole settled day covers is compared row by row when an operator asks for it: part days, and today. What cannot
be compared at all is said (`left_out`), so that a check which compared nothing is never taken for a success.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import msgspec

from app.domain.interval import D1, DAY_MS, HOUR_MS, INTERVALS, M1, Grid, Interval
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.rollup import added_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import IntervalsDisagree, KlinesMended, KlinesVerified, Observe
from app.filling.fill import Filler
from app.holding.ledger_cache import LedgerCache
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage
from app.ports.exchange import Priority, RestApi
from app.ports.store import Disagreement, StoreWriter

SETTLE_MS: Final = 10 * 60_000  # a day is compared this long after its end: late frames and repairs are in by then
ROW_AGE_MS: Final = 90_000  # a closed kline is compared by itself once it is this old
DAYS_SAVED_AT_ONCE: Final = 30  # what an interruption costs at the most
FINDINGS_MAX: Final = 100  # described one by one in a report; all are counted
_H1: Final = INTERVALS["1h"]


@dataclass(slots=True)
class Tally:
    """What an audit has done so far."""

    compared: int = 0
    """Days of series (of intervals longer than a day: klines), and pages of rows, compared with the exchange's."""
    uncompared: int = 0
    """Days of which the exchange gave nothing to compare with."""
    mismatched: int = 0
    """Of those compared, how many differed."""
    mended: int = 0
    """Rows that were replaced by the exchange's."""
    disagreements: int = 0
    """Klines of which the exchange contradicts itself."""
    findings: list[str] = field(default_factory=list)

    def note(self, finding: str) -> None:
        """Describe a finding, while there is room."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


class Auditor:
    """Compares, mends and records; never decides when."""

    def __init__(
        self, clock: Clock, observe: Observe, rest: RestApi, store: StoreWriter, holdings: LedgerCache, filler: Filler
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._rest = rest
        self._store = store
        self._holdings = holdings
        self._filler = filler

    def due(self, series: Series, span: Span, verified_since_ms: int) -> Spans:
        """What of `span` can be compared and was not since `verified_since_ms`: known and settled.

        Whole days; of intervals longer than a day, whole klines.
        """
        left = self._whole(series, span) - self._holdings.verification(series).since(verified_since_ms)
        step = self._step(series)
        return Spans(Span(step.floor(start), step.ceil(end)) for start, end in left)  # of some days only a part was

    def due_rows(self, series: Series, span: Span, verified_since_ms: int) -> Spans:
        """What of `span` is held and in no whole day that `due` may name: to be compared row by row."""
        if not self._holdings.is_anchored(series):
            return Spans()
        held = self._holdings.ledger(series).held.clip(self._closed(series, span)) - self._whole(series, span)
        return held - self._holdings.verification(series).since(verified_since_ms)

    def left_out(self, series: Series, span: Span) -> list[tuple[Span, str]]:
        """What of `span` cannot be compared, and why: klines that are not held, or too young if all of them are."""
        if not self._holdings.is_anchored(series):
            return [(span, "nothing of it is held")]
        grid = self._holdings.grid(series)
        if not grid.count(*span):
            return [(span, f"no {series.interval} kline opens in it")]
        closed = self._closed(series, span)
        if not closed:
            return [(span, f"its klines have not closed, or closed less than {ROW_AGE_MS // 1_000} s ago")]
        return [(hole, "not held") for hole in self._holdings.ledger(series).known.complement(closed)]

    def _closed(self, series: Series, span: Span) -> Span:
        """The open times of `span` whose klines have closed long enough ago to be compared."""
        grid = self._holdings.grid(series)
        end_ms = grid.floor(self._clock.now_ms() - ROW_AGE_MS)
        return Span(grid.ceil(span.start_ms), min(end_ms, grid.ceil(min(span.end_ms, end_ms))))

    def _whole(self, series: Series, span: Span) -> Spans:
        """The whole settled days of `span` (of intervals longer than a day: klines) of which everything is known."""
        ledger = self._holdings.ledger(series)
        if not ledger.held or not self._holdings.is_anchored(series):
            return Spans()
        step = self._step(series)
        first_ms = step.floor(ledger.held.hull.start_ms)  # before it nothing exists that could be added up
        window = Span(max(span.start_ms, first_ms), min(span.end_ms, self._clock.now_ms() - SETTLE_MS))
        if not window:
            return Spans()
        return Spans(Span(step.ceil(start), step.floor(end)) for start, end in ledger.known.clip(window))

    def count(self, series: Series, spans: Spans) -> int:
        """How many comparisons `spans` that are due take."""
        return sum(self._step(series).count(*span) for span in spans)

    def count_rows(self, series: Series, spans: Spans) -> int:
        """How many comparisons `spans` take that are compared row by row: pages of REST."""
        grid = self._holdings.grid(series)
        return sum(-(-grid.count(*span) // series.kind.rest.rows_thrifty) for span in spans)

    async def audit(self, due: Mapping[Series, Spans], tally: Tally, pause_s: float = 0.0) -> None:
        """Compare what is due, of one symbol, with a pause after each day: a day of minutes is 7 ms of work.

        Raises UpstreamError, StoreUnavailable; what was done by then stays.
        """
        within_day = {series: spans for series, spans in due.items() if spans and not _is_by_rows(series)}
        hull = Spans(span for spans in within_day.values() for span in spans).hull
        end_ms = hull.end_ms
        while end_ms > hull.start_ms:  # newest first, like everything here
            days = next(iter(within_day)).kind.rest.rows_thrifty
            window = Span(max(hull.start_ms, end_ms - days * DAY_MS), end_ms)
            end_ms = window.start_ms
            if any(spans.clip(window) for spans in within_day.values()):
                daily = await self._theirs(next(iter(within_day)).of(D1), window)
                for series, spans in within_day.items():
                    for span in reversed(spans.clip(window)):
                        await self._audit_days(series, span, daily, tally, pause_s)
        for series, spans in due.items():
            if _is_by_rows(series):
                await self.audit_rows(series, spans, tally)

    async def compare(self, series: Series, window: Span, tally: Tally) -> Spans:
        """Compare held klines with the exchange's own of the same interval, row by row; the open times replaced.

        `window` has at most a thrifty page of rows. Raises UpstreamError, StoreUnavailable.
        """
        grid = self._holdings.grid(series)
        limit = grid.count(*window)
        theirs = await self._rows(series, window)
        ours = {kline.open_ms: kline for kline in (await self._store.read(series, window, limit)).rows}
        differing = [kline for kline in theirs if ours.get(kline.open_ms) != kline]
        tally.compared += 1
        if not differing:
            return Spans()
        tally.mismatched += 1
        await self._keep(series, differing, tally)
        return Spans(Span(kline.open_ms, grid.shift(kline.open_ms, 1)) for kline in differing)

    async def explain(self, series: Series, open_ms: int, tally: Tally) -> None:
        """Look into the minutes of a longer kline that was wrong; what remains is the exchange contradicting itself."""
        minutes = series.of(M1)
        bucket = Span(open_ms, self._holdings.grid(series).shift(open_ms, 1))
        step_ms = minutes.kind.rest.rows_thrifty * M1.grid.step_ms
        for start_ms in range(*bucket, step_ms):
            piece = Span(start_ms, min(bucket.end_ms, start_ms + step_ms))
            if self._holdings.ledger(minutes).held.covers(piece):
                await self.compare(minutes, piece, tally)
        ours = await self._added_up(minutes, bucket)
        theirs = await self._store.read(series, bucket, 1)
        if ours is not None and theirs.rows and not _is_equal(ours, theirs.rows[0]):
            await self._record(minutes, open_ms, series.interval, ours, theirs.rows[0], tally)

    # --- days ---------------------------------------------------------------------------------------------------

    async def _audit_days(
        self, series: Series, span: Span, daily: Mapping[int, Kline], tally: Tally, pause_s: float
    ) -> None:
        days = range(span.end_ms - DAY_MS, span.start_ms - 1, -DAY_MS)
        for at in range(0, len(days), DAYS_SAVED_AT_ONCE):
            some = days[at : at + DAYS_SAVED_AT_ONCE]
            fetched = await self._hold_again(series, Span(some[-1], some[0] + DAY_MS))
            began_ms = self._clock.now_ms() + fetched  # what was fetched is dated by this millisecond at the latest
            right: list[Span] = []
            for day_ms in some:
                day = Span(day_ms, day_ms + DAY_MS)
                if day_ms not in daily and (held := self._holdings.ledger(series).held.clip(day)):
                    await self._audit_without_daily(series, held, tally)
                    continue
                tally.compared += 1
                if await self._is_right(series, day, daily.get(day_ms)):
                    right.append(day)
                else:
                    await self._mend_day(series, day, daily.get(day_ms), tally)
                await self._clock.sleep(pause_s)  # requests get their turn
            await self._save(series, Spans(right), began_ms)

    async def _audit_without_daily(self, series: Series, held: Spans, tally: Tally) -> None:
        """Compare a day of which the exchange gave no daily kline by its rows, if it gives those."""
        try:
            await self.audit_rows(series, held, tally)
        except UpstreamGarbage as error:
            tally.uncompared += 1
            tally.note(f"{error}, nor did it give a daily kline: day {held.hull.start_ms} is not compared")

    async def _hold_again(self, series: Series, span: Span) -> bool:
        """Fetch what a minute mended since `span` became due has let go of, if the reconciler was not faster."""
        lacking = self._holdings.ledger(series).known.complement(span)
        async for klines in self._fetched(series, lacking):
            await self._filler.keep(series, self._holdings.grid(series), klines, Source.REST)
        return bool(lacking)

    async def _is_right(self, series: Series, day: Span, theirs: Kline | None) -> bool:
        """Whether a day adds up, or fails to as it is known to: then its rows are the exchange's own all the same."""
        ours = await self._added_up(series, day)
        known = self._holdings.disagreements(series).get((day.start_ms, D1))
        return _is_equal(ours, theirs) or (
            known is not None and (known.ours, known.theirs) == (_text(ours), _text(theirs))
        )

    async def _mend_day(self, series: Series, day: Span, theirs: Kline | None, tally: Tally) -> None:
        tally.mismatched += 1
        before = tally.mended
        if series.interval == D1 and theirs is not None:
            await self._keep(series, [theirs], tally)
        elif series.interval.grid.step_ms >= HOUR_MS:
            await self._refetch(series, Spans([day]), tally)
        else:
            await self._refetch(series, await self._differing_hours(series, day), tally)
        tally.note(f"{series.name} {series.interval} day {day.start_ms}: {tally.mended - before} rows replaced")
        began_ms = self._clock.now_ms() + 1  # after the repair, which is dated by this millisecond at the latest
        ours = await self._added_up(series, day)
        if not _is_equal(ours, theirs):
            await self._record(series, day.start_ms, D1, ours, theirs, tally)
        await self._save(series, Spans([day]), began_ms)

    async def _differing_hours(self, series: Series, day: Span) -> Spans:
        hourly = await self._theirs(series.of(_H1), day)
        differing = []
        for hour_ms in range(*day, HOUR_MS):
            hour = Span(hour_ms, hour_ms + HOUR_MS)
            if not _is_equal(await self._added_up(series, hour), hourly.get(hour_ms)):
                differing.append(hour)
        return Spans(differing)

    # --- row by row ---------------------------------------------------------------------------------------------

    async def audit_rows(self, series: Series, spans: Spans, tally: Tally) -> None:
        """Compare row by row what is held in `spans`. Raises as `audit` does."""
        grid = self._holdings.grid(series)
        for span in spans:
            start_ms = span.start_ms
            while start_ms < span.end_ms:
                window = Span(start_ms, min(span.end_ms, grid.shift(start_ms, series.kind.rest.rows_thrifty)))
                start_ms = window.end_ms
                began_ms = self._clock.now_ms()
                replaced = await self.compare(series, window, tally)
                if replaced:
                    tally.note(f"{series.name} {series.interval}: {sum(grid.count(*s) for s in replaced)} replaced")
                    began_ms = self._clock.now_ms() + 1
                await self._save(series, Spans([window]), began_ms)

    # --- the two sides, and the store ---------------------------------------------------------------------------

    def _step(self, series: Series) -> Grid:
        """The grid of what is compared at once."""
        return self._holdings.grid(series) if _is_longer(series) else D1.grid

    async def _theirs(self, series: Series, window: Span) -> dict[int, Kline]:
        grid = series.interval.grid
        klines = await self._rest.klines(series, grid, window, grid.count(*window), Priority.VERIFY)
        return {kline.open_ms: kline for kline in klines}

    async def _rows(self, series: Series, window: Span) -> list[Kline]:
        """The exchange's klines of `window`. Raises UpstreamGarbage when some that are held are not among them.

        Such an answer proves nothing: neither what is wrong, nor that the exchange contradicts itself.
        """
        grid = self._holdings.grid(series)
        klines = await self._rest.klines(series, grid, window, grid.count(*window), Priority.VERIFY)
        given = Spans(Span(kline.open_ms, grid.shift(kline.open_ms, 1)) for kline in klines)
        if lacking := self._holdings.ledger(series).held.clip(window) - given:
            missing = sum(grid.count(*span) for span in lacking)
            raise UpstreamGarbage(
                f"{series.name} {series.interval}: {missing} held klines are missing from REST's answer"
            )
        return list(klines)

    async def _added_up(self, series: Series, span: Span) -> Kline | None:
        """What the held klines of `span`, all of them, add up to."""
        snapshot = await self._store.read(series, span, series.interval.grid.count(*span))
        return added_up(snapshot.rows, span.start_ms)

    async def _refetch(self, series: Series, spans: Spans, tally: Tally) -> None:
        async for klines in self._fetched(series, spans):
            await self._keep(series, klines, tally)

    async def _fetched(self, series: Series, spans: Spans) -> AsyncIterator[list[Kline]]:
        grid = series.interval.grid
        for span in spans:
            start_ms = span.start_ms
            while start_ms < span.end_ms:
                window = Span(start_ms, min(span.end_ms, grid.shift(start_ms, series.kind.rest.rows_thrifty)))
                start_ms = window.end_ms
                yield await self._rows(series, window)

    async def _keep(self, series: Series, klines: Sequence[Kline], tally: Tally) -> None:
        replaced = await self._filler.keep(series, self._holdings.grid(series), klines, Source.REST)
        tally.mended += replaced
        if replaced:
            self._observe(KlinesMended(series.name, series.interval.code, replaced))

    async def _save(self, series: Series, spans: Spans, began_ms: int) -> None:
        if spans:
            self._holdings.set_verification(series, await self._store.save_verified(series, spans, began_ms))
            self._observe(KlinesVerified(series.name, series.interval.code, max(1, self.count(series, spans))))

    async def _record(
        self, series: Series, open_ms: int, other: Interval, ours: Kline | None, theirs: Kline | None, tally: Tally
    ) -> None:
        tally.disagreements += 1
        tally.note(f"{series.name} {open_ms}: the exchange's {series.interval} and {other} disagree")
        found = Disagreement(series, open_ms, other, _text(ours), _text(theirs), self._clock.now_ms())
        await self._store.save_disagreement(found)
        self._holdings.set_disagreement(found)
        self._observe(IntervalsDisagree(series.name, series.interval.code, other.code, open_ms))


def _is_longer(series: Series) -> bool:
    """Whether a kline of the series lasts longer than the day by which the others are compared."""
    return series.interval.grid.step_ms > DAY_MS


def _is_by_rows(series: Series) -> bool:
    """Whether klines are compared one by one: those that last longer than a day, and those that do not add up."""
    return _is_longer(series) or not series.kind.rolls_up


def _is_equal(ours: Kline | None, theirs: Kline | None) -> bool:
    """Whether two klines have the same numbers, however they are printed."""
    if ours is None or theirs is None:
        return ours is theirs
    return ours.trades == theirs.trades and all(
        one == other or Decimal(one) == Decimal(other) for one, other in zip(_texts(ours), _texts(theirs), strict=True)
    )


def _texts(kline: Kline) -> Iterable[str]:
    return (*kline[1:7], *kline[8:10])


def _text(kline: Kline | None) -> str:
    return msgspec.json.encode(kline).decode()
