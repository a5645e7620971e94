"""Gathering in virtual time: who is asked for when, what is kept, and what is recorded absent."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.filling.gathering import ASKED_FACTOR, Gathering
from app.filling.lacking import RECHECKS_MS
from app.holding.coverage import Coverage
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.kinds.metrics import METRICS, REACH_MS
from app.ports.errors import BucketFull, StandDown, UpstreamRejected, UpstreamUnavailable
from app.ports.exchange import Priority
from tests.fakes import NOW_MS, Rig, listing, rig, running, turn

M5 = INTERVALS["5m"]
STEP_MS = M5.grid.step_ms


@dataclass
class Data:
    """The exchange's statistics: rows that follow from series and time, granted by a bucket of `room` requests."""

    clock: Any
    room: int = 1_000
    lacking: set[tuple[Series, int]] = field(default_factory=set)
    late_ms: int = 0
    first_ms: int = 0
    until_ms: int = 1 << 60
    down: Kind | None = None
    history_room: int = 1_000
    refused: set[str] = field(default_factory=set)
    asked: list[tuple[int, Series, Span, Priority]] = field(default_factory=list)
    error: Exception | None = None
    is_shared: bool = True
    _left: dict[Kind | None, list[int]] = field(default_factory=dict)

    def row(self, series: Series, open_ms: int) -> Any:
        values = (f"{open_ms // 1000 % 100_000}.{number}" for number in range(len(series.kind.columns) - 1))
        return series.kind.row(open_ms, *values)

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        now_ms = self.clock.now_ms()
        assert window is not None
        assert not newest
        assert grid.count(*window) <= limit <= series.kind.rest.rows_max, "the exchange would leave the oldest out"
        assert window.start_ms >= now_ms - REACH_MS, "the exchange refuses what is older"
        await turn()
        if self.error is not None:
            raise self.error
        left = self._left.setdefault(None if self.is_shared else series.kind, [])
        left[:] = [at for at in left if at > now_ms - 5 * MINUTE_MS]
        room = self.room if priority is Priority.TAIL else min(self.room, self.history_room)
        if len(left) >= room:
            raise BucketFull(left[0] + 5 * MINUTE_MS, "used up")
        left.append(now_ms)
        self.asked.append((now_ms, series, window, priority))
        if series.kind is self.down:
            raise UpstreamUnavailable("HTTP 503")
        if series.symbol in self.refused:
            raise UpstreamRejected(400, -1121, "Invalid symbol.")
        end_ms = min(window.end_ms, grid.floor(now_ms - self.late_ms), self.until_ms)
        return [
            self.row(series, at)
            for at in grid.opens(max(self.first_ms, window.start_ms), end_ms)
            if (series, at) not in self.lacking
        ]


@dataclass
class Case:
    """Gathering on a rig."""

    rig: Rig
    data: Data
    symbols: Collection[str]
    kinds: int = len(METRICS)
    onboard_ms: int = 0

    def __post_init__(self) -> None:
        self.inventory = Inventory(self.rig.holdings, self.wish)
        self.gathering = Gathering(
            self.rig.runtime, self.data, self.rig.committer, self.inventory, is_data_shared=self.data.is_shared
        )

    def wish(self) -> Wish:
        listings = {symbol: listing(symbol, self.onboard_ms) for symbol in self.symbols}
        others = dict.fromkeys(list(METRICS.values())[: self.kinds], self.symbols)
        return Wish(frozenset(), (), 30, listings, {}, others)

    @property
    def series(self) -> list[Series]:
        return [each for each in self.wish().series() if each.kind.is_gathered]

    def newest(self, series: Series) -> int:
        held = self.rig.holdings.ledger(series).held
        return held.hull.end_ms if held else 0

    async def pass_s(self, seconds: int, every_s: int = 5) -> None:
        """Let time pass in steps, so that what is under way does not fall behind the clock."""
        for _ in range(0, seconds, every_s):
            await self.rig.advance(every_s)


@asynccontextmanager
async def gathering(folder: Path, symbols: int = 2, kinds: int = len(METRICS), **data: Any) -> AsyncIterator[Case]:
    async with rig(folder) as made:
        case = Case(made, Data(made.clock, **data), [f"S{number}USDT" for number in range(symbols)], kinds)
        async with running(*(partial(case.gathering.run, limit) for limit in case.gathering.limits())):
            yield case


async def test_everything_within_reach_is_gathered_newest_first(tmp_path: Path) -> None:
    async with gathering(tmp_path) as case:
        await case.pass_s(120)
        for series in case.series:
            ledger = case.rig.holdings.ledger(series)
            end_ms = M5.grid.floor(case.rig.clock.ms - 63_000)
            begin_ms = M5.grid.ceil(case.rig.clock.ms - REACH_MS + HOUR_MS)
            assert ledger.held.covers(Span(begin_ms, end_ms)), f"{series} {ledger.held}"
            rows = (await case.rig.store.read(series, Span(begin_ms, end_ms), 10_000)).rows
            assert rows == [case.data.row(series, at) for at in M5.grid.opens(begin_ms, end_ms)]
        newest_ms = max(window.end_ms for _, _, window, _ in case.data.asked[:2])
        begun = case.data.asked[: len(case.series)]
        assert {series for _, series, window, _ in begun if window.end_ms == newest_ms} == set(case.series)
        windows = [window for _, series, window, _ in case.data.asked if series == case.series[0]]
        history = [window.end_ms for window in windows if window.end_ms <= newest_ms]
        assert history == sorted(history, reverse=True), "newest first"
        asked = Counter((series, window) for _, series, window, _ in case.data.asked)
        assert set(asked.values()) == {1}, "nothing is asked for twice"


async def test_the_series_furthest_behind_is_first_when_the_bucket_is_small(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=8, kinds=5, room=10) as case:
        await case.pass_s(3 * 3_600)
        counts = Counter(series for _, series, _, _ in case.data.asked)
        assert set(counts) == set(case.series), "none is left behind"
        found = Coverage(case.rig.clock, case.inventory).gathered()
        assert [(each.series, each.held) for each in found.values()] == [(8, 8)] * 5
        oldest_ms = max(each.p99_ms or 0 for each in found.values())
        assert oldest_ms <= 45 * MINUTE_MS, "40 series, of ten requests in five minutes a quarter for history"
        at = [now_ms for now_ms, *_ in case.data.asked]
        assert max(sum(each <= other < each + 5 * MINUTE_MS for other in at) for each in at) <= 10


async def test_endpoints_with_a_limit_each_do_not_wait_for_one_another(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=8, room=10, is_shared=False) as case:
        assert len(case.gathering.limits()) == len(METRICS) + 1, "and that of funding rates"
        for _ in range(7):
            case.gathering.asked(case.series[3])
            await case.pass_s(600)
        found = Coverage(case.rig.clock, case.inventory).gathered()
        assert [(each.series, each.held) for each in found.values()] == [(8, 8)] * 5
        assert max(each.p99_ms or 0 for each in found.values()) <= 15 * MINUTE_MS, "8 series, 10 requests in 5 minutes"
        asked = Counter(series.kind for _, series, _, _ in case.data.asked)
        assert min(asked.values()) >= 100, "each endpoint uses its own limit"


async def test_what_clients_ask_for_is_fetched_more_often(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=8, kinds=5, room=10) as case:
        await case.pass_s(2 * 3_600)
        wanted, begun = case.series[17], len(case.data.asked)
        for _ in range(12):
            case.gathering.asked(wanted)
            await case.pass_s(600)
        counts = Counter(series for _, series, window, _ in case.data.asked[begun:] if window.end_ms > NOW_MS)
        others = [count for series, count in counts.items() if series != wanted]
        assert counts[wanted] >= 2 * max(others) > 0, f"{ASKED_FACTOR} times as urgent"


async def test_a_late_row_is_waited_for_without_asking_all_the_time(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1, late_ms=4 * MINUTE_MS) as case:
        await case.pass_s(60)
        begun = len(case.data.asked)
        await case.pass_s(3_600)
        assert len(case.data.asked) - begun <= 12 * 4
        assert case.newest(case.series[0]) >= case.rig.clock.ms - 4 * MINUTE_MS - 2 * STEP_MS
        assert not case.rig.holdings.ledger(case.series[0]).absent


async def test_a_row_that_the_exchange_lacks_is_absent_after_a_day_and_asked_for_every_day(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1) as case:
        series = case.series[0]
        hole_ms = M5.grid.floor(NOW_MS - 7 * HOUR_MS)
        hole = Span(hole_ms, hole_ms + 2 * STEP_MS)
        case.data.lacking |= {(series, hole_ms), (series, hole_ms + STEP_MS)}
        await case.pass_s(24 * 3_600 - 600, every_s=60)
        assert not case.rig.holdings.ledger(series).absent
        await case.pass_s(3_600, every_s=60)
        assert case.rig.holdings.ledger(series).absent == Spans([hole])
        asked = [at for at, _, window, _ in case.data.asked if window.clip(hole)]
        assert len(asked) == 1 + len(RECHECKS_MS)
        for recheck_ms, at in zip(RECHECKS_MS, asked[1:], strict=True):
            assert recheck_ms <= at - asked[0] <= recheck_ms + 16 * MINUTE_MS
        assert case.rig.holdings.ledger(series).source_at(hole_ms - 1) is Source.REST
        case.data.lacking.clear()
        await case.pass_s(25 * 3_600, every_s=60)
        assert case.rig.holdings.ledger(series).held.covers(hole), "the exchange has it after all"


async def test_late_publishing_and_a_stall_leave_no_hole(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=3, room=20) as case:
        case.data.late_ms = 45 * MINUTE_MS
        await case.pass_s(3 * 3_600, every_s=30)
        case.data.late_ms = 0
        await case.pass_s(3_600, every_s=30)
        case.data.until_ms = case.rig.clock.ms
        await case.pass_s(90 * 60, every_s=30)
        case.data.until_ms = 1 << 60
        await case.pass_s(6 * 3_600, every_s=30)
        for series in case.series:
            ledger = case.rig.holdings.ledger(series)
            assert not ledger.absent
            assert ledger.held.covers(Span(NOW_MS, case.rig.clock.ms - HOUR_MS)), f"{series} {ledger.held}"


async def test_thousands_of_holes_cost_pages_and_not_a_request_each(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=2, kinds=1) as case:
        holed, other = case.series
        every_other = [at for at in M5.grid.opens(NOW_MS - REACH_MS, NOW_MS) if at // STEP_MS % 2]
        case.data.lacking |= {(holed, at) for at in every_other}
        await case.pass_s(2 * 3_600, every_s=60)
        asked = Counter(series for _, series, window, _ in case.data.asked if window.end_ms <= NOW_MS)
        assert asked[holed] <= asked[other] * (1 + len(RECHECKS_MS)) + 4
        held = case.rig.holdings.ledger(holed).held
        assert sum(M5.grid.count(*span) for span in held.clip(Span(0, NOW_MS))) >= len(every_other) - 20
        assert case.newest(holed) >= case.rig.clock.ms - 3 * STEP_MS, "newest rows do not wait for holes"


async def test_an_endpoint_that_is_down_delays_no_other(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=20) as case:
        down = case.series[-1].kind
        case.data.down = down
        await case.pass_s(2 * 3_600, every_s=10)
        asked = sum(series.kind is down for _, series, _, _ in case.data.asked)
        assert 0 < asked <= 60, "the endpoint is asked less and less often, not each of its series"
        for series in case.series:
            if series.kind is not down:
                assert case.newest(series) >= case.rig.clock.ms - 2 * STEP_MS


async def test_history_that_may_use_no_more_of_the_bucket_delays_no_newest_row(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=4, room=40) as case:
        case.data.history_room = 20
        await case.pass_s(3_600, every_s=5)
        begun = case.rig.clock.ms
        late = []
        for _ in range(60):
            await case.pass_s(60, every_s=5)
            late.append(max(case.rig.clock.ms - case.newest(series) for series in case.series))
        assert begun
        assert max(late) <= 2 * STEP_MS + MINUTE_MS + 10_000, "each row within the minute in which it is due"


async def test_rows_from_before_the_listing_are_absent_at_once(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1) as case:
        series = case.series[0]
        case.onboard_ms = listed_ms = M5.grid.floor(NOW_MS - 30 * HOUR_MS)
        case.data.first_ms = listed_ms
        await case.pass_s(600)
        ledger = case.rig.holdings.ledger(series)
        assert ledger.held.hull.start_ms == listed_ms
        assert ledger.absent.hull.end_ms == listed_ms
        assert ledger.absent.hull.start_ms <= listed_ms - 24 * HOUR_MS
        assert ledger.absent.hull.start_ms >= listed_ms - 2 * DAY_MS, "what is long before it is not asked for"


async def test_an_exchange_that_has_lost_its_history_for_hours_leaves_no_hole(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1) as case:
        series = case.series[0]
        case.data.first_ms = NOW_MS + 365 * DAY_MS
        await case.pass_s(10 * 3_600, every_s=60)
        assert not case.rig.holdings.ledger(series).known
        case.data.first_ms = 0
        await case.pass_s(15 * 3_600, every_s=60)
        ledger = case.rig.holdings.ledger(series)
        assert not ledger.absent
        assert ledger.held.covers(Span(NOW_MS - 20 * DAY_MS, NOW_MS + 10 * HOUR_MS)), f"{ledger.held}"


async def test_a_row_that_comes_after_all_is_held(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1) as case:
        series = case.series[0]
        hole_ms = M5.grid.floor(NOW_MS - 7 * HOUR_MS)
        case.data.lacking.add((series, hole_ms))
        await case.pass_s(600)
        case.data.lacking.clear()
        await case.pass_s(3_600)
        assert case.rig.holdings.ledger(series).held.covers(Span(hole_ms, hole_ms + STEP_MS))


async def test_a_full_bucket_and_a_stand_down_are_waited_for(tmp_path: Path) -> None:
    async with gathering(tmp_path) as case:
        await case.pass_s(60)
        case.data.error = StandDown(case.rig.clock.ms + 20 * MINUTE_MS, "banned")
        await case.pass_s(10 * 60)
        begun = len(case.data.asked)
        case.data.error = None
        await case.pass_s(5 * 60)
        assert len(case.data.asked) == begun, "nothing leaves during a stand-down"
        assert "banned" in str(case.gathering.last_error)
        await case.pass_s(10 * 60)
        assert len(case.data.asked) >= begun + len(case.series)


async def test_a_series_that_is_refused_delays_no_other(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=3) as case:
        case.data.refused.add("S1USDT")
        await case.pass_s(3_600)
        refused = sum(series.symbol == "S1USDT" for _, series, _, _ in case.data.asked)
        assert 0 < refused <= 5 * 2 * 20, "it is asked for less and less often"
        for series in case.series:
            if series.symbol != "S1USDT":
                assert case.newest(series) >= case.rig.clock.ms - 2 * STEP_MS


async def test_a_month_without_the_exchange_loses_what_it_no_longer_has_and_nothing_else(tmp_path: Path) -> None:
    async with gathering(tmp_path, symbols=1, kinds=1) as case:
        await case.pass_s(120)
        series = case.series[0]
        until_ms = case.newest(series)
        case.data.error = StandDown(case.rig.clock.ms + 33 * DAY_MS, "away")
        await case.rig.advance(33 * DAY_MS / 1000)
        case.data.error = None
        await case.pass_s(600)
        held = case.rig.holdings.ledger(series).held
        assert held.covers(Span(until_ms - DAY_MS, until_ms)), "what was held stays held"
        missing = held.complement(Span(until_ms, case.newest(series)))
        assert [each.end_ms for each in missing] == [
            next(span.start_ms for span in held if span.start_ms > until_ms)
        ], "one hole, which has passed out of reach"
        assert missing.hull.end_ms <= M5.grid.ceil(case.rig.clock.ms - REACH_MS + HOUR_MS) + STEP_MS
