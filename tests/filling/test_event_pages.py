"""Gathering of fundings in virtual time: events at irregular times, late, early, at changing intervals, corrected."""

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Bucket
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.filling.gathering import Gathering
from app.filling.rhythm import PATIENCE_MS
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.kinds.funding import FUNDING, ROWS_MAX
from app.ports.errors import BucketFull
from app.ports.exchange import Priority
from tests.fakes import NOW_MS, Rig, listing, rig, running, turn

H1 = INTERVALS["1h"]
GRID = H1.grid
NEWEST_STEPS = ROWS_MAX - 1
JITTERS_MS = (5, 0, -2, 8, -60_000, 11)


@dataclass
class Fundings:
    """The exchange's fundings: by symbol the times of its events, and when one is published that is late."""

    clock: Any
    room: int = 425
    history_room: int = 350
    times_ms: dict[str, list[int]] = field(default_factory=dict)
    published_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    rates: dict[tuple[str, int], str] = field(default_factory=dict)
    lost_until_ms: int = 0
    """Until then the exchange has lost everything."""
    asked: list[tuple[int, Series, Span, Priority]] = field(default_factory=list)
    _granted: list[int] = field(default_factory=list)

    def every(self, symbol: str, hours: int, since_ms: int, until_ms: int, jitters_ms: Sequence[int] = (0,)) -> None:
        """Add an event every `hours` of the UTC day in [since_ms, until_ms), off its hour by one of `jitters_ms`."""
        first_ms = since_ms + -since_ms % (hours * HOUR_MS)
        hours_ms = range(first_ms, until_ms, hours * HOUR_MS)
        self.times_ms.setdefault(symbol, []).extend(
            each + jitters_ms[each // HOUR_MS % len(jitters_ms)] for each in hours_ms
        )

    def row(self, symbol: str, time_ms: int) -> FundingRow:
        rate = self.rates.get((symbol, time_ms), f"0.{time_ms % 10**8:08}")
        return FundingRow(time_ms - STAMP_AFTER_OPEN_MS, rate, "5.00000000", "Regular")

    def rows(self, symbol: str, window: Span) -> list[FundingRow]:
        """The rows that open in `window` and are published."""
        now_ms, times_ms = self.clock.now_ms(), self.times_ms.get(symbol, [])
        at = bisect_left(times_ms, window.start_ms + STAMP_AFTER_OPEN_MS)
        inside = times_ms[at : bisect_left(times_ms, min(window.end_ms + STAMP_AFTER_OPEN_MS, now_ms + 1))]
        return [self.row(symbol, each) for each in inside if self.published_ms.get((symbol, each), 0) <= now_ms]

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        now_ms = self.clock.now_ms()
        assert window
        assert not newest
        assert limit <= ROWS_MAX
        await turn()
        self._granted = [at for at in self._granted if at > now_ms - 5 * MINUTE_MS]
        if len(self._granted) >= (self.room if priority is Priority.TAIL else self.history_room):
            raise BucketFull(self._granted[0] + 5 * MINUTE_MS, "used up")
        self._granted.append(now_ms)
        self.asked.append((now_ms, series, window, priority))
        return [] if now_ms < self.lost_until_ms else self.rows(series.symbol, window)[:limit]


@dataclass
class Case:
    """Gathering of fundings on a rig."""

    rig: Rig
    data: Fundings
    symbols: list[str]
    days: int

    def __post_init__(self) -> None:
        self.list_since()
        inventory = Inventory(self.rig.holdings, self.wish)
        self.gathering = Gathering(self.rig.runtime, self.data, self.rig.committer, inventory, is_data_shared=True)

    def wish(self) -> Wish:
        return self._wish

    def list_since(self, onboard_ms: int = 0) -> None:
        """List the symbols since `onboard_ms`."""
        listings = {symbol: listing(symbol, onboard_ms) for symbol in self.symbols}
        self._wish = Wish(frozenset(), (), self.days, listings, {}, {FUNDING: self.symbols})

    @property
    def series(self) -> list[Series]:
        return [Series(FUNDING, symbol, H1) for symbol in self.symbols]

    def known_until(self, series: Series) -> int:
        known = self.rig.holdings.ledger(series).known
        return known.hull.end_ms if known else 0

    def due_ms(self) -> int:
        """Until when everything should be known."""
        return GRID.floor(self.rig.clock.ms - MINUTE_MS - 3_000)

    async def run(self) -> None:
        await self.gathering.run(Bucket.FUNDING)

    async def pass_s(self, seconds: int, every_s: int = 5) -> None:
        for _ in range(0, seconds, every_s):
            await self.rig.advance(every_s)

    async def rows(self, series: Series) -> list[FundingRow]:
        return (await self.rig.store.read(series, Span(0, 1 << 50), 100_000)).rows

    async def is_all_held(self, series: Series) -> None:
        """Assert that all events of the wish are held, as the exchange has them."""
        (wished,) = self.wish().spans(series, GRID, self.rig.clock.ms)
        assert self.rig.holdings.ledger(series).known.covers(wished), (
            f"{series} {self.rig.holdings.ledger(series).known}"
        )
        held = await self.rows(series)
        expected = self.data.rows(series.symbol, Span(wished.start_ms, wished.end_ms))
        assert [row for row in held if wished.start_ms <= row.open_ms < wished.end_ms] == expected


@asynccontextmanager
async def fundings(folder: Path, symbols: int = 1, days: int = 100, **data: Any) -> AsyncIterator[Case]:
    async with rig(folder) as made:
        yield Case(made, Fundings(made.clock, **data), [f"S{number}USDT" for number in range(symbols)], days)


async def test_600_symbols_are_gathered_within_the_bucket_newest_first(tmp_path: Path) -> None:
    async with fundings(tmp_path, symbols=600, days=60) as case:
        for number, symbol in enumerate(case.symbols):
            case.data.every(symbol, (8, 8, 4, 8, 1)[number % 5], NOW_MS - 62 * DAY_MS, NOW_MS + DAY_MS, JITTERS_MS)
        async with running(case.run):
            begun_ms, newest_ms, whole_ms = case.rig.clock.ms, None, None
            while whole_ms is None:
                await case.pass_s(10)
                if newest_ms is None and all(map(case.known_until, case.series)):
                    newest_ms = case.rig.clock.ms
                starts_ms = (case.rig.holdings.ledger(each).known.hull.start_ms for each in case.series)
                begin_ms = NOW_MS - 59 * DAY_MS
                if newest_ms is not None and max(starts_ms) <= begin_ms:
                    whole_ms = case.rig.clock.ms
                assert case.rig.clock.ms < begun_ms + HOUR_MS
            assert newest_ms is not None
            assert newest_ms - begun_ms <= 6 * MINUTE_MS, "600 requests, of which 425 are granted in five minutes"
            assert whole_ms - begun_ms <= 20 * MINUTE_MS, "two requests for each"
            await case.pass_s((GRID.ceil(case.rig.clock.ms) - case.rig.clock.ms) // 1_000 + 70, every_s=20)
            while min(map(case.known_until, case.series)) < case.due_ms():
                await case.pass_s(10)
            assert case.rig.clock.ms - case.due_ms() <= 7 * MINUTE_MS, "each hour asks each symbol once"
            for series in case.series[::60]:
                await case.is_all_held(series)
        at = [now_ms for now_ms, *_ in case.data.asked]
        assert max(bisect_left(at, each + 5 * MINUTE_MS) - place for place, each in enumerate(at)) <= 425
        first = [series for _, series, _, _ in case.data.asked[:600]]
        assert len(set(first)) == 600, "every symbol's newest events come before any history"


async def test_events_off_the_hour_lie_in_the_hour_that_they_end(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        case.data.every("S0USDT", 1, NOW_MS - 120 * DAY_MS, NOW_MS + 2 * DAY_MS, (-60_000, 59_999, 0, 7, -1))
        async with running(case.run):
            await case.pass_s(120)
            for _ in range(24):
                await case.pass_s(HOUR_MS // 1_000, every_s=20)
                assert case.known_until(case.series[0]) == case.due_ms()
            await case.is_all_held(case.series[0])
        rows = await case.rows(case.series[0])
        counts = Counter(GRID.floor(row.open_ms) for row in rows)
        hours = {(row.open_ms + STAMP_AFTER_OPEN_MS + MINUTE_MS) // HOUR_MS for row in rows}
        assert set(counts.values()) == {1}, "one in each hour"
        assert len(hours) == len(rows)
        windows = [window for _, _, window, priority in case.data.asked if priority is Priority.TAIL]
        assert all(GRID.count(*window) == NEWEST_STEPS for window in windows), "each brings six weeks again"


async def test_older_events_are_asked_for_as_far_as_they_fit_on_a_page(tmp_path: Path) -> None:
    async with fundings(tmp_path, symbols=3, days=365) as case:
        case.data.every("S0USDT", 8, NOW_MS - 400 * DAY_MS, NOW_MS)
        case.data.every("S1USDT", 1, NOW_MS - 400 * DAY_MS, NOW_MS - 60 * DAY_MS)
        case.data.every("S1USDT", 8, NOW_MS - 60 * DAY_MS, NOW_MS)
        async with running(case.run):
            await case.pass_s(180)
            for series in case.series:
                await case.is_all_held(series)
        counts = Counter(series.symbol for _, series, _, _ in case.data.asked)
        assert counts["S0USDT"] == 2
        assert counts["S1USDT"] <= 2 + 305 * 24 // (ROWS_MAX - 1) + 1, (
            "pages that were full of the oldest are gone on from"
        )
        assert counts["S2USDT"] <= 9, "without any event nothing lets expect how many fit"


async def test_intervals_change_without_a_hole(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        start_ms = NOW_MS - NOW_MS % DAY_MS
        case.data.every("S0USDT", 8, start_ms - 90 * DAY_MS, start_ms + DAY_MS, JITTERS_MS)
        case.data.every("S0USDT", 4, start_ms + DAY_MS, start_ms + 2 * DAY_MS, JITTERS_MS)
        case.data.every("S0USDT", 1, start_ms + 2 * DAY_MS, start_ms + 3 * DAY_MS, JITTERS_MS)
        case.data.every("S0USDT", 8, start_ms + 3 * DAY_MS, start_ms + 5 * DAY_MS, JITTERS_MS)
        async with running(case.run):
            await case.pass_s(120)
            waits = []
            while case.rig.clock.ms < start_ms + 4 * DAY_MS:
                await case.pass_s(300, every_s=20)
                waits.append(case.due_ms() - case.known_until(case.series[0]))
            await case.is_all_held(case.series[0])
        assert sum(wait > 0 for wait in waits) <= 2 + PATIENCE_MS // (5 * MINUTE_MS) + 3, "only an interval that grows"
        assert max(waits) <= HOUR_MS


async def test_a_late_event_is_waited_for_and_one_that_is_later_still_is_found(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        case.data.every("S0USDT", 4, NOW_MS - 90 * DAY_MS, NOW_MS + 4 * DAY_MS, JITTERS_MS)
        series = case.series[0]
        first, second, third = [at for at in case.data.times_ms["S0USDT"] if at > NOW_MS][:3]
        case.data.published_ms["S0USDT", first] = first + 20 * MINUTE_MS
        case.data.published_ms["S0USDT", second] = second + 170 * MINUTE_MS
        async with running(case.run):
            await case.pass_s(120)
            begun = len(case.data.asked)
            hour_ms = GRID.floor(first - STAMP_AFTER_OPEN_MS)
            await case.pass_s((hour_ms + HOUR_MS + 19 * MINUTE_MS - case.rig.clock.ms) // 1_000)
            assert case.known_until(series) == hour_ms, "the event may still come"
            assert len(case.data.asked) - begun <= 3 + 6, "it is asked for less and less often"
            await case.pass_s(20 * 60)
            assert case.known_until(series) == case.due_ms()
            await case.is_all_held(series)
            hour_ms = GRID.floor(second - STAMP_AFTER_OPEN_MS)
            await case.pass_s((hour_ms + 2 * HOUR_MS + 2 * MINUTE_MS - case.rig.clock.ms) // 1_000)
            assert case.known_until(series) >= hour_ms + HOUR_MS, "there seems to be none"
            await case.pass_s(150 * 60, every_s=20)
            assert case.rig.clock.ms < third
            await case.is_all_held(series)


async def test_a_corrected_event_replaces_the_held_one_and_is_kept_as_a_revision(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        case.data.every("S0USDT", 8, NOW_MS - 120 * DAY_MS, NOW_MS + 4 * DAY_MS)
        times_ms, series = case.data.times_ms["S0USDT"], case.series[0]
        async with running(case.run):
            await case.pass_s(120)
            recent, old = len(times_ms) - 40, 80
            case.data.rates["S0USDT", times_ms[recent]] = "0.77777777"
            times_ms[recent + 1] += 4
            case.data.rates["S0USDT", times_ms[old]] = "0.88888888"
            await case.pass_s(3_600, every_s=20)
            assert case.rig.holdings.revisions[series] == 2, "within the newest page: after an hour"
            await case.pass_s(25 * 3_600, every_s=60)
            assert case.rig.holdings.revisions[series] == 3, "elsewhere: after a day"
            await case.is_all_held(series)


async def test_an_exchange_that_has_lost_its_events_for_an_hour_deletes_none(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        case.data.every("S0USDT", 8, NOW_MS - 120 * DAY_MS, NOW_MS + 4 * DAY_MS)
        async with running(case.run):
            await case.pass_s(120)
            held = await case.rows(case.series[0])
            case.data.lost_until_ms = case.rig.clock.ms + 3 * HOUR_MS
            await case.pass_s(2 * 3_600, every_s=20)
            assert await case.rows(case.series[0]) == held
            await case.pass_s(4 * 3_600, every_s=20)
            await case.is_all_held(case.series[0])
        assert not case.rig.holdings.revisions[case.series[0]]


async def test_what_an_empty_exchange_hid_at_first_is_found(tmp_path: Path) -> None:
    async with fundings(tmp_path, lost_until_ms=NOW_MS + HOUR_MS) as case:
        case.data.every("S0USDT", 8, NOW_MS - 120 * DAY_MS, NOW_MS + 4 * DAY_MS)
        async with running(case.run):
            await case.pass_s(300)
            assert not await case.rows(case.series[0])
            await case.pass_s(26 * 3_600, every_s=60)
            await case.is_all_held(case.series[0])


async def test_before_the_first_event_of_a_young_symbol_there_is_nothing(tmp_path: Path) -> None:
    async with fundings(tmp_path) as case:
        case.list_since(NOW_MS - 5 * DAY_MS)
        case.data.every("S0USDT", 4, NOW_MS - 5 * DAY_MS, NOW_MS)
        async with running(case.run):
            await case.pass_s(60)
        ledger, first_ms = case.rig.holdings.ledger(case.series[0]), case.data.times_ms["S0USDT"][0]
        assert ledger.absent == Spans([Span(0, GRID.floor(first_ms - STAMP_AFTER_OPEN_MS))])
        assert ledger.known == Spans([Span(0, case.due_ms())])
        assert {entry.source for entry in ledger.entries} == {Source.ABSENT, Source.REST}
        assert len(case.data.asked) == 1


async def test_what_clients_ask_for_comes_first(tmp_path: Path) -> None:
    async with fundings(tmp_path, symbols=30, room=5, history_room=4, days=30) as case:
        for symbol in case.symbols:
            case.data.every(symbol, 8, NOW_MS - 50 * DAY_MS, NOW_MS + DAY_MS)
        async with running(case.run):
            await case.pass_s(3_000)
            wanted = case.series[23]
            case.gathering.asked(wanted)
            await case.pass_s((GRID.ceil(case.rig.clock.ms) - case.rig.clock.ms) // 1_000 + 63)
            begun = len(case.data.asked)
            case.gathering.asked(wanted)
            await case.pass_s(600)
        assert wanted in [series for _, series, _, _ in case.data.asked[begun : begun + 2]]
