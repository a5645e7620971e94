"""Every gap is closed by a bounded number of jobs, whatever is held, wished, published or distrusted."""

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.archive_csv import ArchiveFile
from app.domain.incident import DISAGREEMENTS
from app.domain.interval import D3, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS, Interval
from app.domain.ledger import Entry, Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.filling.plan import (
    JOBS_PER_SERIES,
    ROLLUP_PARTS_MAX,
    Download,
    Fetch,
    Job,
    LearnAnchor,
    Planner,
    RollUp,
)
from app.holding.gaps import SeriesGap, survey
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish
from app.kinds.klines import KLINES, ROWS_THRIFTY
from tests.fakes import ANCHOR_MS, BTC, DAY0_MS, NOW_MS, listing

SYMBOL = "BTCUSDT"
INCIDENT_MS = 1_730_073_600_000  # 2024-10-28, one of the distrusted days
CODES = list(INTERVALS)


def never(_file: ArchiveFile) -> bool:
    return False


def wish_of(*codes: str, days: int = 5, onboard_ms: int = 0, extra: dict[Series, Span] | None = None) -> Wish:
    chosen = tuple(INTERVALS[code] for code in CODES if code in codes)
    return Wish({SYMBOL}, chosen, days, {SYMBOL: listing(SYMBOL, onboard_ms)}, extra or {})


def holding(ledgers: dict[Series, Ledger] | None = None, anchors: dict[str, int] | None = None) -> LedgerCache:
    holdings = LedgerCache()
    holdings.load(ledgers or {}, {SYMBOL: ANCHOR_MS} if anchors is None else anchors, {})
    return holdings


def plan(wish: Wish, holdings: LedgerCache, now_ms: int, series: Series) -> tuple[SeriesGap, list[Job]]:
    gap = survey(wish, holdings, series, now_ms)
    return gap, Planner(wish, holdings, now_ms, never).jobs(gap)


def windows_of(job: Job) -> Spans:
    return job.windows if isinstance(job, Download) else Spans([job.window])


def carry_out(job: Job, holdings: LedgerCache) -> None:
    """Record the result of a job as if exchange and archive were perfect."""
    if isinstance(job, LearnAnchor):
        holdings.set_anchor(job.series.symbol, ANCHOR_MS)
        return
    if isinstance(job, RollUp):
        assert holdings.ledger(job.part).known.covers(job.window), "rolled up from parts that are not known"
    source = {Fetch: Source.REST, Download: Source.ARCHIVE, RollUp: Source.ROLLUP}[type(job)]
    ledger = holdings.ledger(job.series)
    holdings.set_ledger(job.series, ledger.record(windows_of(job) - ledger.known, source))


def check(job: Job, gap: SeriesGap, now_ms: int) -> None:
    """Assert the properties of every job: it has windows, on the grid, of missing klines only."""
    if isinstance(job, LearnAnchor):
        return
    assert windows_of(job), "a job without a window"
    assert not windows_of(job) - gap.missing, "a job for what is not missing"
    for span in windows_of(job):
        assert gap.grid.floor(span.start_ms) == span.start_ms
        assert gap.grid.floor(span.end_ms) == span.end_ms
    if isinstance(job, Fetch):
        assert 1 <= gap.grid.count(*job.window) <= ROWS_THRIFTY
    if isinstance(job, Download):
        assert job.file.published_ms <= now_ms
        assert not job.windows.clip(gap.tail), "the tail does not wait for files"
    if isinstance(job, RollUp):
        assert not Spans([job.window]) & DISAGREEMENTS, "rolled up on a distrusted day"
        assert job.part.interval.grid.count(*job.window) <= max(
            ROLLUP_PARTS_MAX, 32 * DAY_MS // job.part.interval.grid.step_ms + 1
        )
    if not isinstance(job, Download):
        assert job.is_tail == bool(job.window.clip(Span(gap.tail.start_ms, gap.tail.end_ms)))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Wish, LedgerCache, int, frozenset[int]]:
    codes = draw(st.sets(st.sampled_from(CODES), min_size=1, max_size=6))
    days = draw(st.integers(1, 40))
    now_ms = draw(st.sampled_from([NOW_MS, DAY0_MS + 5_000, INCIDENT_MS + 9 * DAY_MS])) + draw(st.integers(0, DAY_MS))
    since_ms = now_ms - 45 * DAY_MS
    onboard_ms = draw(st.one_of(st.just(0), st.integers(since_ms, now_ms)))
    wish = wish_of(*codes, days=days, onboard_ms=onboard_ms)
    extra = {}
    for code in draw(st.sets(st.sampled_from(CODES), max_size=3)):
        start_ms = since_ms - draw(st.integers(0, 20 * DAY_MS))
        extra[Series(KLINES, SYMBOL, INTERVALS[code])] = Span(start_ms, start_ms + draw(st.integers(1, 9 * DAY_MS)))
    wish = dataclasses.replace(wish, extra=extra)
    holdings = holding(anchors=draw(st.sampled_from([{}, {SYMBOL: ANCHOR_MS}])))
    for series in wish.series():
        if not holdings.is_anchored(series):
            continue
        grid, ledger = holdings.grid(series), Ledger()
        for _ in range(draw(st.integers(0, 3))):
            start_ms = grid.floor(since_ms + draw(st.integers(0, 45 * DAY_MS)))
            span = Span(start_ms, grid.ceil(start_ms + draw(st.integers(1, 12 * DAY_MS))))
            source = draw(st.sampled_from(list(Source)))
            ledger = ledger.record(Spans([span]) - ledger.known, source)
        holdings.set_ledger(series, ledger)
    spent = draw(st.frozensets(st.integers(0, 9), max_size=9))  # tried files, by the last digit of their day or month
    return wish, holdings, now_ms, spent


@settings(max_examples=200)
@given(situations())
def test_carrying_out_plans_fulfils_every_wish(situation: tuple[Wish, LedgerCache, int, frozenset[int]]) -> None:
    wish, holdings, now_ms, spent = situation
    for _round in itertools.count():
        planner = Planner(wish, holdings, now_ms, lambda file: file.span.start_ms // DAY_MS % 10 in spent)
        planned: list[Job] = []
        missing = 0
        for series in wish.series():
            gap = survey(wish, holdings, series, now_ms)
            jobs = planner.jobs(gap)
            missing += len(gap.missing) + (not holdings.is_anchored(series))
            assert len(jobs) <= JOBS_PER_SERIES
            for job in jobs:
                check(job, gap, now_ms)
            planned += jobs
        if not missing:
            return
        assert planned, "something is missing and nothing is planned: it would wait for ever"
        assert _round < 600, "it takes too many plans"
        for job in planned:
            if not isinstance(job, LearnAnchor) and not windows_of(job) - holdings.ledger(job.series).known:
                continue
            carry_out(job, holdings)


def test_a_bucket_whose_parts_are_wished_in_two_pieces_of_different_intervals_does_not_wait_for_ever() -> None:
    noon_ms = DAY0_MS - 50 * DAY_MS + 12 * HOUR_MS
    seam_ms = noon_ms + 30 * MINUTE_MS
    hours, minutes, fives = (Series(KLINES, SYMBOL, INTERVALS[code]) for code in ("1h", "1m", "5m"))
    extra = {
        hours: Span(noon_ms, noon_ms + HOUR_MS),
        minutes: Span(noon_ms, seam_ms),
        fives: Span(seam_ms, noon_ms + HOUR_MS),
    }
    wish = wish_of("1m", "5m", "1h", days=1, extra=extra)
    _, jobs = plan(wish, holding(), NOW_MS, hours)
    assert any(job.window.clip(extra[hours]) for job in jobs), "neither 1m nor 5m will ever make this hour"


def test_the_newest_klines_come_first() -> None:
    gap, jobs = plan(wish_of("1m", days=3), holding(), NOW_MS, BTC)
    ends = [job.window.end_ms for job in jobs]
    assert ends[0] == gap.tail.end_ms == NOW_MS - 30_000
    assert ends == sorted(ends, reverse=True)
    assert all(isinstance(job, Fetch) and job.is_tail for job in jobs[:2])


def test_a_page_of_rest_costs_weight_two() -> None:
    _, jobs = plan(wish_of("1m", days=3), holding(), NOW_MS, BTC)
    assert [M1.grid.count(*job.window) for job in jobs if isinstance(job, Fetch)] == [499, 499]


def jobs_beyond_the_tail(interval: Interval, days: int, held_from_ms: int) -> list[Job]:
    """The jobs for history when everything newer than `held_from_ms` is held."""
    series = Series(KLINES, SYMBOL, interval)
    held = Ledger().record(Spans([Span(held_from_ms, interval.grid.floor(NOW_MS))]), Source.WS)
    wish = Wish({SYMBOL}, (interval,), days, {SYMBOL: listing(SYMBOL)}, {})
    return plan(wish, holding({series: held}), NOW_MS, series)[1]


def test_a_published_month_that_lacks_much_is_one_file() -> None:
    november_ms = DAY0_MS - 20 * DAY_MS
    job, *_ = jobs_beyond_the_tail(M1, 60, november_ms)
    assert isinstance(job, Download)
    assert (job.file.name, job.file.is_monthly) == ("BTCUSDT-1m-2026-10", True)


def test_a_day_of_a_month_that_is_not_out_is_a_daily_file() -> None:
    job, *_ = jobs_beyond_the_tail(M1, 60, DAY0_MS - DAY_MS)
    assert isinstance(job, Download)
    assert (job.file.name, job.file.is_monthly) == ("BTCUSDT-1m-2026-11-19", False)


def test_few_missing_rows_are_cheaper_by_rest_than_by_a_file() -> None:
    november_ms = DAY0_MS - 20 * DAY_MS
    wish = wish_of("1m", days=60)
    whole = Spans(wish.spans(BTC, M1.grid, NOW_MS))
    hole = Span(november_ms - 900 * MINUTE_MS, november_ms)
    _, jobs = plan(wish, holding({BTC: Ledger().record(whole - Spans([hole]), Source.WS)}), NOW_MS, BTC)
    assert [type(job) for job in jobs] == [Fetch, Fetch]


def test_klines_that_roll_up_will_make_do_not_count_for_a_file() -> None:
    """On a distrusted day 288 5m klines are fetched, not the month around them."""
    fives = Series(KLINES, SYMBOL, INTERVALS["5m"])
    now_ms = INCIDENT_MS + 20 * DAY_MS
    wish = wish_of("1m", "5m", days=30)
    gap, jobs = plan(wish, holding(), now_ms, fives)
    assert [type(job) for job in jobs] == [Fetch]
    assert jobs[0].window == Span(INCIDENT_MS, INCIDENT_MS + DAY_MS)
    assert gap.missing.total_ms > 20 * DAY_MS


def test_the_tail_never_waits_for_a_file_of_the_archive() -> None:
    """30m on the tenth of a month: the tail reaches into the previous month, whose file is published."""
    series = Series(KLINES, SYMBOL, INTERVALS["30m"])
    now_ms = DAY0_MS - 11 * DAY_MS
    gap, jobs = plan(wish_of("30m", days=200), holding(), now_ms, series)
    fetched = Spans(job.window for job in jobs if isinstance(job, Fetch) and job.is_tail)
    assert fetched.covers(gap.tail)


def test_a_tail_of_days_is_fetched_and_one_of_hours_waits_for_roll_up() -> None:
    wish = wish_of("1m", "5m", "1h", days=60)
    assert plan(wish, holding(), NOW_MS, Series(KLINES, SYMBOL, INTERVALS["5m"]))[1] == []
    hourly = plan(wish, holding(), NOW_MS, Series(KLINES, SYMBOL, INTERVALS["1h"]))[1]
    assert [(type(job), job.is_tail) for job in hourly] == [(Fetch, True), (Fetch, True)]


def test_held_parts_are_rolled_up_instead_of_fetched() -> None:
    wish = wish_of("1m", "1h", days=60)
    whole = Ledger().record(Spans(wish.spans(BTC, M1.grid, NOW_MS)), Source.ARCHIVE)
    gap, jobs = plan(wish, holding({BTC: whole}), NOW_MS, Series(KLINES, SYMBOL, INTERVALS["1h"]))
    assert [type(job) for job in jobs] == [RollUp] * JOBS_PER_SERIES
    assert jobs[0].window.end_ms == gap.tail.end_ms


def test_a_bucket_is_not_rolled_up_while_one_of_its_minutes_is_missing() -> None:
    """A roll-up of an incomplete bucket would look like a complete kline."""
    wish = wish_of("1m", "1h", days=1)
    hour_ms = DAY0_MS + 9 * HOUR_MS
    lost = Span(hour_ms + 7 * MINUTE_MS, hour_ms + 8 * MINUTE_MS)
    ledger = Ledger().record(Spans(wish.spans(BTC, M1.grid, NOW_MS)) - Spans([lost]), Source.WS)
    _, jobs = plan(wish, holding({BTC: ledger}), NOW_MS, Series(KLINES, SYMBOL, INTERVALS["1h"]))
    assert jobs
    assert all(not job.window.clip(Span(hour_ms, hour_ms + HOUR_MS)) for job in jobs)


def test_a_3d_series_without_anchor_asks_for_that_only() -> None:
    series = Series(KLINES, SYMBOL, D3)
    assert [type(job) for job in plan(wish_of("3d", days=60), holding(anchors={}), NOW_MS, series)[1]] == [LearnAnchor]


def test_older_jobs_do_not_wait_for_deferred_ones() -> None:
    wish, holdings = wish_of("1m", days=60), holding()
    gap = survey(wish, holdings, BTC, NOW_MS)
    jobs = Planner(wish, holdings, NOW_MS, never, lambda job: isinstance(job, Fetch)).jobs(gap)
    assert [type(job) for job in jobs] == [Download] * JOBS_PER_SERIES


def test_everything_deferred_is_looked_at_within_bounds() -> None:
    wish, holdings = wish_of("1m", days=4000), holding()
    looked: list[Job] = []

    def defer(job: Job) -> bool:
        looked.append(job)
        return True

    assert Planner(wish, holdings, NOW_MS, never, defer).jobs(survey(wish, holdings, BTC, NOW_MS)) == []
    assert len(looked) <= 30


def test_the_wish_of_a_delivered_symbol_ends_with_the_minute_of_its_delivery() -> None:
    """That minute has trades; longer klines are wished to the end of the one that contains it."""
    delivery_ms = DAY0_MS + 9 * HOUR_MS
    ended = dataclasses.replace(listing(SYMBOL), status="SETTLING", delivery_ms=delivery_ms)
    hours = INTERVALS["1h"]
    wish = Wish({SYMBOL}, (M1, hours), 2, {SYMBOL: ended}, {})
    now_ms = delivery_ms + DAY_MS
    ends_ms = {M1: delivery_ms + MINUTE_MS, hours: delivery_ms + HOUR_MS}
    for interval, end_ms in ends_ms.items():
        series, grid = Series(KLINES, SYMBOL, interval), interval.grid
        assert [span.end_ms for span in wish.spans(series, grid, now_ms)] == [end_ms]
        assert wish.tail(series, grid, now_ms).end_ms == end_ms
        assert wish.is_over(series, now_ms)
        assert not wish.is_over(series, delivery_ms)


def test_the_first_longer_kline_of_a_name_that_changed_hands_is_fetched() -> None:
    """The bucket contains the change of listings, and part of its minutes belong to the former one."""
    since_ms = DAY0_MS + 2 * HOUR_MS + 7 * MINUTE_MS
    hours = INTERVALS["1h"]
    wish = dataclasses.replace(wish_of("1m", "1h"), since_ms={SYMBOL: since_ms})
    known = Ledger([Entry(Span(0, since_ms), Source.ABSENT), Entry(Span(since_ms, DAY0_MS + 9 * HOUR_MS), Source.REST)])
    holdings = holding({BTC: known})
    series = Series(KLINES, SYMBOL, hours)
    assert [span.start_ms for span in wish.spans(series, hours.grid, NOW_MS)] == [DAY0_MS + 2 * HOUR_MS]
    assert wish.spans(BTC, M1.grid, NOW_MS)[0].start_ms == since_ms
    gap = survey(wish, holdings, series, DAY0_MS + 9 * HOUR_MS + MINUTE_MS)
    jobs = Planner(wish, holdings, DAY0_MS + 9 * HOUR_MS + MINUTE_MS, never).jobs(gap)
    assert [(type(job), job.window) for job in jobs] == [
        (RollUp, Span(DAY0_MS + 3 * HOUR_MS, DAY0_MS + 9 * HOUR_MS)),
        (Fetch, Span(DAY0_MS + 2 * HOUR_MS, DAY0_MS + 3 * HOUR_MS)),
    ]
