"""The audit of held klines against the exchange's daily ones, which finds and replaces the rows that differ.

One `1d` request covers 499 days of a symbol. A day of any shorter interval is right if its klines add up to the
exchange's daily kline in every column. If they do not, the `1h` klines show which hours differ, only those hours are
fetched again, and the store keeps the replaced rows as revisions. If the day still does not add up, the exchange
contradicts itself (binance-facts section 7): this is recorded as a disagreement, and the day is not fetched again
while both sides stay the same.

Klines outside whole settled days (parts of days, and today) are compared row by row when an operator asks for it, and
all klines when the operator asks for every row (RowAudit). What cannot be compared at all is reported (`left_out`), so
that an audit that compared nothing never counts as a success.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
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

SETTLE_MS: Final = 10 * 60_000  # after a day's end until it is compared: late frames and repairs are stored by then
ROW_AGE_MS: Final = 90_000  # after a kline's close until it is compared row by row
DAYS_SAVED_AT_ONCE: Final = 30  # an interruption loses the results of at most so many days
FINDINGS_MAX: Final = 100  # described in a report; all are counted
_H1: Final = INTERVALS["1h"]


@dataclass(slots=True)
class Tally:
    """The counts and findings of an audit so far."""

    compared: int = 0
    """Comparisons made: days, klines (of intervals longer than a day), pages of rows, absent spans."""
    uncompared: int = 0
    """Days for which the exchange had nothing to compare with."""
    mismatched: int = 0
    """Comparisons that found a difference."""
    mended: int = 0
    """Rows replaced by the exchange's."""
    disagreements: int = 0
    """Klines about which the exchange contradicts itself."""
    findings: list[str] = field(default_factory=list)

    def note(self, finding: str) -> None:
        """Add a finding, up to FINDINGS_MAX."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)


class Auditor:
    """Compares klines, replaces rows that differ and records disagreements. The Verifier decides when."""

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
        """The parts of `span` that can be compared and have not been verified since `verified_since_ms`.

        These are whole days (of intervals longer than a day: whole klines) that are known and settled.
        """
        left = self._whole(series, span) - self._holdings.verification(series).since(verified_since_ms)
        step = self._step(series)
        return Spans(Span(step.floor(start), step.ceil(end)) for start, end in left)  # also days verified in part

    def due_rows(self, series: Series, span: Span, verified_since_ms: int) -> Spans:
        """The held parts of `span` to be compared row by row: those outside the whole days that `due` covers."""
        parts = self.held_rows(series, span) - self._whole(series, span)
        return parts - self._holdings.verification(series).since(verified_since_ms)

    def held_rows(self, series: Series, span: Span) -> Spans:
        """The held parts of `span` whose klines have closed long enough ago to be compared row by row."""
        if not self._holdings.is_anchored(series):
            return Spans()
        return self._holdings.ledger(series).held.clip(self._closed(series, span))

    def left_out(self, series: Series, span: Span) -> list[tuple[Span, str]]:
        """The parts of `span` that cannot be compared, each with the reason.

        Klines that are too young are named only if all klines of `span` are; otherwise the audit ends before them.
        """
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
        """The settled whole days of `span` (of intervals longer than a day: klines) that are held or proven absent."""
        ledger = self._holdings.ledger(series)
        if not ledger.held or not self._holdings.is_anchored(series):
            return Spans()
        step = self._step(series)
        first_ms = step.floor(ledger.held.hull.start_ms)  # before the first held kline there is nothing to add up
        window = Span(max(span.start_ms, first_ms), min(span.end_ms, self._clock.now_ms() - SETTLE_MS))
        if not window:
            return Spans()
        return Spans(Span(step.ceil(start), step.floor(end)) for start, end in ledger.known.clip(window))

    def count(self, series: Series, spans: Spans) -> int:
        """How many comparisons the `spans` of `due` take."""
        return sum(self._step(series).count(*span) for span in spans)

    def count_rows(self, series: Series, spans: Spans) -> int:
        """How many comparisons the `spans` of `due_rows` or `held_rows` take: one for each page of REST."""
        grid = self._holdings.grid(series)
        return sum(-(-grid.count(*span) // series.kind.rest.rows_thrifty) for span in spans)

    def pages(self, series: Series, spans: Iterable[Span]) -> Iterator[Span]:
        """The windows of `spans` that REST answers by one page each, ascending."""
        grid = self._holdings.grid(series)
        for span in spans:
            start_ms = span.start_ms
            while start_ms < span.end_ms:
                window = Span(start_ms, min(span.end_ms, grid.shift(start_ms, series.kind.rest.rows_thrifty)))
                start_ms = window.end_ms
                yield window

    async def audit(self, due: Mapping[Series, Spans], tally: Tally, pause_s: float = 0.0) -> None:
        """Compare the spans that are due of one symbol, with a pause after each day (a day of minutes takes 7 ms).

        Raises UpstreamError, StoreUnavailable; an error keeps what was done before it.
        """
        within_day = {series: spans for series, spans in due.items() if spans and not _is_by_rows(series)}
        hull = Spans(span for spans in within_day.values() for span in spans).hull
        end_ms = hull.end_ms
        while end_ms > hull.start_ms:  # newest first
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
        """Compare held klines with the exchange's of the same interval, row by row. Return the spans of replaced rows.

        `window` has at most `rest.rows_thrifty` rows. Raises UpstreamError, StoreUnavailable.
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
        """Compare the minutes of a longer kline that differed; if they still do not add up, record a disagreement.

        Raises UpstreamError, StoreUnavailable.
        """
        minutes = series.of(M1)
        bucket = Span(open_ms, self._holdings.grid(series).shift(open_ms, 1))
        for piece in self.pages(minutes, [bucket]):
            if self._holdings.ledger(minutes).held.covers(piece):
                await self.compare(minutes, piece, tally)
        await self.confront(series, open_ms, tally)

    async def confront(self, series: Series, open_ms: int, tally: Tally) -> None:
        """Record a disagreement if a longer kline is not what its minutes add up to. Both must be the exchange's.

        A disagreement that is recorded already counts as none. Raises StoreUnavailable.
        """
        minutes = series.of(M1)
        bucket = Span(open_ms, self._holdings.grid(series).shift(open_ms, 1))
        ours = await self._added_up(minutes, bucket)
        theirs = await self._store.read(series, bucket, 1)
        if ours is None or not theirs.rows or _is_equal(ours, theirs.rows[0]):
            return
        known = self._holdings.disagreements(minutes).get((open_ms, series.interval))
        if known is None or (known.ours, known.theirs) != (_text(ours), _text(theirs.rows[0])):
            await self._record(minutes, open_ms, series.interval, ours, theirs.rows[0], tally)

    # --- days ---------------------------------------------------------------------------------------------------

    async def _audit_days(
        self, series: Series, span: Span, daily: Mapping[int, Kline], tally: Tally, pause_s: float
    ) -> None:
        days = range(span.end_ms - DAY_MS, span.start_ms - 1, -DAY_MS)
        for at in range(0, len(days), DAYS_SAVED_AT_ONCE):
            some = days[at : at + DAYS_SAVED_AT_ONCE]
            fetched = await self.hold_again(series, Span(some[-1], some[0] + DAY_MS))
            began_ms = self._clock.now_ms() + fetched  # after the rows fetched just now, whose time is this ms at most
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
                await self._clock.sleep(pause_s)  # lets requests run
            await self._save(series, Spans(right), began_ms)

    async def _audit_without_daily(self, series: Series, held: Spans, tally: Tally) -> None:
        """Compare a day without a daily kline at the exchange row by row, or count it as uncompared."""
        try:
            await self.audit_rows(series, held, tally)
        except UpstreamGarbage as error:
            tally.uncompared += 1
            tally.note(f"{error}, nor did it give a daily kline: day {held.hull.start_ms} is not compared")

    async def hold_again(self, series: Series, span: Span) -> bool:
        """Fetch the parts of `span` that are no longer known; return whether there were any.

        A repair of a minute invalidates the roll-ups made of it, possibly after `span` was found due. Raises
        UpstreamError, StoreUnavailable.
        """
        lacking = self._holdings.ledger(series).known.complement(span)
        async for klines in self._fetched(series, lacking):
            await self._filler.keep(series, self._holdings.grid(series), klines, Source.REST)
        return bool(lacking)

    async def _is_right(self, series: Series, day: Span, theirs: Kline | None) -> bool:
        """Whether a day adds up, or differs as a recorded disagreement does (its rows are then the exchange's)."""
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
        began_ms = self._clock.now_ms() + 1  # after the repair, whose time is this ms at most
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
        """Compare the held klines of `spans` row by row. Raises UpstreamError, StoreUnavailable."""
        for window in self.pages(series, spans):
            await self.audit_page(series, window, self._clock.now_ms(), tally)

    async def audit_page(self, series: Series, window: Span, began_ms: int, tally: Tally) -> Spans:
        """Compare one of the `pages` row by row and save it as verified; return the spans of replaced rows.

        It counts as verified at `began_ms`, or, when rows were replaced, after that. Raises UpstreamError,
        StoreUnavailable.
        """
        replaced = await self.compare(series, window, tally)
        if replaced:
            grid = self._holdings.grid(series)
            tally.note(f"{series.name} {series.interval}: {sum(grid.count(*span) for span in replaced)} replaced")
            began_ms = self._clock.now_ms() + 1
        await self._save(series, Spans([window]), began_ms)
        return replaced

    # --- the two sides, and the store ---------------------------------------------------------------------------

    def _step(self, series: Series) -> Grid:
        """The grid of single comparisons: days, or the series' own klines if they are longer."""
        return self._holdings.grid(series) if _is_longer(series) else D1.grid

    async def _theirs(self, series: Series, window: Span) -> dict[int, Kline]:
        grid = series.interval.grid
        klines = await self._rest.klines(series, grid, window, grid.count(*window), Priority.VERIFY)
        return {kline.open_ms: kline for kline in klines}

    async def _rows(self, series: Series, window: Span) -> list[Kline]:
        """The exchange's klines of `window`. Raises UpstreamGarbage when held klines are missing from the answer.

        Such an answer proves nothing: neither which rows are wrong, nor that the exchange contradicts itself.
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
        """The sum of the held klines of `span`; None when they do not add up to a kline."""
        snapshot = await self._store.read(series, span, series.interval.grid.count(*span))
        return added_up(snapshot.rows, span.start_ms)

    async def _refetch(self, series: Series, spans: Spans, tally: Tally) -> None:
        async for klines in self._fetched(series, spans):
            await self._keep(series, klines, tally)

    async def _fetched(self, series: Series, spans: Spans) -> AsyncIterator[list[Kline]]:
        for window in self.pages(series, spans):
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
    """Whether a kline of the series is longer than the day by which shorter ones are compared."""
    return series.interval.grid.step_ms > DAY_MS


def _is_by_rows(series: Series) -> bool:
    """Whether klines are compared row by row: those longer than a day, and kinds that do not roll up."""
    return _is_longer(series) or not series.kind.rolls_up


def _is_equal(ours: Kline | None, theirs: Kline | None) -> bool:
    """Whether two klines have equal numbers (1.50 equals 1.5); two Nones are equal."""
    if ours is None or theirs is None:
        return ours is theirs
    return ours.trades == theirs.trades and all(
        one == other or Decimal(one) == Decimal(other) for one, other in zip(_texts(ours), _texts(theirs), strict=True)
    )


def _texts(kline: Kline) -> Iterable[str]:
    return (*kline[1:7], *kline[8:10])


def _text(kline: Kline | None) -> str:
    return msgspec.json.encode(kline).decode()
