"""The plan: which gaps between wish and ledger to close next, and by which source. Pure; the reconciler carries it out.

gap = wish − ledger, whatever its cause. Newest first; the newest klines of every series before any history. A socket
delivers a minute as it closes; a missing minute is fetched from REST near the tail and from the archive further back.
Longer klines are rolled up from held ones, unless the tail of a series would then wait for days of minutes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from app.binance.archive_csv import ArchiveFile, daily_exists
from app.domain.incident import DISAGREEMENTS
from app.domain.interval import D1, DAY_MS, M1, MINUTE_MS, MO1, Grid
from app.domain.ledger import Ledger
from app.domain.rollup_columns import can_roll_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.holding.gaps import SeriesGap, survey
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish
from app.kinds.klines import ROWS_THRIFTY

ARCHIVE_ROWS_MIN: Final = (
    2 * ROWS_THRIFTY
)  # fewer missing rows than this cost less by REST than a file costs to download
MONTHLY_DAYS_MIN: Final = 8  # from this many missing days on, a month's file beats its daily ones
ROLLUP_WAIT_MINUTES: Final = 4 * 1440  # a tail that needs more minutes than four days have is fetched from REST
ROLLUP_PARTS_MAX: Final = 1_500  # klines read at once for a roll-up: about 10 ms of work
JOBS_PER_SERIES: Final = 3  # the plan is made again within a minute; more jobs would only be discarded
WALK_MAX: Final = 30  # candidates examined per series: some failed recently, or wait for a stand-down to end


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask REST for `window`, at most one thrifty page."""

    series: Series
    window: Span
    is_tail: bool


@dataclass(frozen=True, slots=True)
class Download:
    """Fill `windows` from an archive file."""

    series: Series
    file: ArchiveFile
    windows: Spans
    is_tail: bool = False

    @property
    def window(self) -> Span:
        """The span from the oldest to the newest wanted kline."""
        spans = list(self.windows)
        return Span(spans[0].start_ms, spans[-1].end_ms)


@dataclass(frozen=True, slots=True)
class RollUp:
    """Roll klines of `part` up into every bucket of `series` in `window`."""

    series: Series
    part: Series
    window: Span
    is_tail: bool


@dataclass(frozen=True, slots=True)
class LearnAnchor:
    """Ask REST for one 3d kline of a symbol, to learn its grid."""

    series: Series
    window: Span
    is_tail: bool = True


Job = Fetch | Download | RollUp | LearnAnchor


def made_of(minutes: Spans, wish: Wish, holdings: LedgerCache, series: Series, now_ms: int) -> Spans:
    """The missing klines of `series` that can be rolled up from `minutes` of its symbol, day by day."""
    if not can_roll_up(series.interval):
        return Spans()
    gap = survey(wish, holdings, series, now_ms)
    return (_whole_buckets(gap.grid, minutes) & gap.missing) - _untrusted(gap, wish)


class Planner:
    """Chooses the source for each missing span.

    `is_spent`: whether an archive file was tried recently and is not worth another try. `is_deferred`: whether a job
    cannot run now; older jobs do not wait for it. While `is_history_paused`, no tail waits for minutes of history.
    """

    def __init__(
        self,
        wish: Wish,
        holdings: LedgerCache,
        now_ms: int,
        is_spent: Callable[[ArchiveFile], bool],
        is_deferred: Callable[[Job], bool] = lambda job: False,
        *,
        is_history_paused: bool = False,
    ) -> None:
        self._wish = wish
        self._holdings = holdings
        self._now_ms = now_ms
        self._is_spent = is_spent
        self._is_deferred = is_deferred
        self._is_history_paused = is_history_paused

    def jobs(self, gap: SeriesGap) -> list[Job]:
        """The next jobs for one series, newest first, at most JOBS_PER_SERIES."""
        if not self._holdings.is_anchored(gap.series):
            return [LearnAnchor(gap.series, Span(0, self._now_ms))]
        if not gap.missing:
            return []
        possible = (job for job in islice(self._walk(gap), WALK_MAX) if not self._is_deferred(job))
        return list(islice(possible, JOBS_PER_SERIES))

    def _walk(self, gap: SeriesGap) -> Iterator[Job]:
        missing = gap.missing
        for job in self._roll_ups(gap):
            yield job
            missing -= Spans([job.window])
        lacking = missing - self._waiting(gap, missing)
        hint_ms = self._hint_ms(gap.series)
        while lacking:
            fetch = self._fetch(gap, lacking, hint_ms)
            yield fetch
            if fetch.window.end_ms <= hint_ms:
                return  # one page proves that there is nothing, or shows that the hint is wrong
            lacking -= fetch.windows if isinstance(fetch, Download) else Spans([fetch.window])

    # --- longer intervals ---------------------------------------------------------------------------------------

    def _parts(self, gap: SeriesGap) -> list[Series]:
        """The series that this one can be rolled up from, longest (fewest klines to read) first."""
        if not gap.series.kind.rolls_up:
            return []
        step_ms = min(gap.grid.step_ms, DAY_MS)
        return [
            gap.series.of(interval)
            for interval in reversed(self._wish.held_intervals)
            if not interval.needs_anchor
            and interval.grid.step_ms < gap.grid.step_ms
            and step_ms % interval.grid.step_ms == 0
        ]

    def _roll_ups(self, gap: SeriesGap) -> Iterator[RollUp]:
        """Roll-up jobs for the missing buckets whose parts are all known, in windows of bounded size."""
        missing = gap.missing - _untrusted(gap, self._wish)
        for part in self._parts(gap):
            if not missing:
                return
            whole = _whole_buckets(gap.grid, _addable(self._holdings.ledger(part)) & missing)
            missing -= whole
            chunk_ms = max(ROLLUP_PARTS_MAX * part.interval.grid.step_ms, gap.grid.step_ms + DAY_MS)
            for span in reversed(whole):
                end_ms = span.end_ms
                while end_ms > span.start_ms:
                    start_ms = max(span.start_ms, gap.grid.ceil(end_ms - chunk_ms))
                    yield RollUp(gap.series, part, Span(start_ms, end_ms), end_ms > gap.tail.start_ms)
                    end_ms = start_ms

    def _waiting(self, gap: SeriesGap, missing: Spans) -> Spans:
        """The part of `missing` that a roll-up will fill soon, because the klines it is made of are wished too."""
        waiting = Spans()
        for part in self._parts(gap):  # one at a time: a bucket is made of parts of one interval
            coming = Spans(self._wish.spans(part, self._holdings.grid(part), self._now_ms))
            waiting |= _whole_buckets(gap.grid, (coming - _holes(self._holdings.ledger(part))) & missing)
        waiting -= _untrusted(gap, self._wish)
        tail_missing = missing.clip(gap.tail)
        if tail_missing and (gap.tail.end_ms - next(iter(tail_missing)).start_ms) // MINUTE_MS > ROLLUP_WAIT_MINUTES:
            waiting -= Spans([gap.tail])
        elif tail_missing and self._is_history_paused:
            minutes = self._wish.tail(gap.series.of(M1), M1.grid, self._now_ms)
            waiting -= Spans([Span(gap.tail.start_ms, max(gap.tail.start_ms, gap.grid.ceil(minutes.start_ms)))])
        return waiting

    # --- the exchange's own klines ------------------------------------------------------------------------------

    def _hint_ms(self, series: Series) -> int:
        """The time (ms) before which the exchange probably has nothing; 0 once earlier rows are held."""
        hint_ms, held = self._wish.hint_ms(series), self._holdings.ledger(series).held
        return 0 if held and held.hull.start_ms < hint_ms else hint_ms

    def _fetch(self, gap: SeriesGap, lacking: Spans, hint_ms: int) -> Fetch | Download:
        """The job for the newest lacking klines: an archive file where it costs less, otherwise a REST page."""
        newest = next(reversed(lacking))
        newest_ms = gap.grid.shift(newest.end_ms, -1)
        probable = lacking.clip(Span(hint_ms, newest.end_ms))
        file = self._file(gap, probable, newest_ms) if probable else None
        if file is not None:
            return Download(gap.series, file, probable.clip(file.span))
        start_ms = max(newest.start_ms, gap.grid.shift(newest.end_ms, -gap.series.kind.rest.rows_thrifty))
        return Fetch(gap.series, Span(start_ms, newest.end_ms), newest.end_ms > gap.tail.start_ms)

    def _file(self, gap: SeriesGap, lacking: Spans, open_ms: int) -> ArchiveFile | None:
        """The archive file worth downloading for klines lacking around `open_ms`; None if none is, or for a tail."""
        if open_ms >= gap.tail.start_ms or not gap.series.kind.is_archived:
            return None
        _, symbol, interval = gap.series
        month_ms = MO1.grid.floor(open_ms)
        monthly = ArchiveFile(symbol, interval, Span(month_ms, MO1.grid.shift(month_ms, 1)), is_monthly=True)
        day_ms = D1.grid.floor(open_ms)
        daily = ArchiveFile(symbol, interval, Span(day_ms, day_ms + DAY_MS), is_monthly=False)
        lacking_ms = lacking.clip(monthly.span).total_ms
        if (
            lacking_ms // gap.grid.step_ms >= ARCHIVE_ROWS_MIN
            and (lacking_ms >= MONTHLY_DAYS_MIN * DAY_MS or not daily_exists(interval))
            and self._is_offered(monthly)
        ):
            return monthly
        if (
            daily_exists(interval)
            and lacking.clip(daily.span).total_ms // gap.grid.step_ms >= ARCHIVE_ROWS_MIN
            and self._is_offered(daily)
        ):
            return daily
        return None

    def _is_offered(self, file: ArchiveFile) -> bool:
        return file.published_ms <= self._now_ms and not self._is_spent(file)


def _addable(ledger: Ledger) -> Spans:
    """The known spans to roll up from: all but holes, where the exchange may have longer klines."""
    return ledger.known - _holes(ledger)


def _holes(ledger: Ledger) -> Spans:
    """The absent spans without the one before the series' first kline."""
    leading = ledger.absent.span_at(0)
    return ledger.absent if leading is None else ledger.absent - Spans([leading])


def _whole_buckets(grid: Grid, spans: Spans) -> Spans:
    return Spans(Span(grid.ceil(span.start_ms), grid.floor(span.end_ms)) for span in spans)


def _untrusted(gap: SeriesGap, wish: Wish) -> Spans:
    """Spans fetched instead of rolled up: days of the exchange's incidents, and where a listing reused a name."""
    grid, since_ms = gap.grid, wish.since_ms.get(gap.series.symbol, 0)
    first = [Span(since_ms, since_ms + 1)] if since_ms else []
    return Spans(Span(grid.floor(span.start_ms), grid.ceil(span.end_ms)) for span in (*DISAGREEMENTS, *first))
