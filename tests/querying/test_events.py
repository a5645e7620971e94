"""Answers about fundings from the store are the exchange's, and nothing that is not true is learned."""

import random
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow
from app.domain.columns import Columns
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.funding import FUNDING
from app.querying.events import Events
from app.querying.statistics import PAST_MS, StatisticsQuery
from tests.fakes import NOW_MS, Rig, rig
from tests.querying.query_desk import Desk, TrustedClock

H1 = INTERVALS["1h"]
GRID = H1.grid
SERIES = Series(FUNDING, "BTCUSDT", H1)
HOUR = GRID.floor(NOW_MS)
EVERY_MS = 4 * HOUR_MS


@dataclass
class Case:
    """Events over a real store, and an exchange that has one or two every four hours, up to 50 minutes late."""

    rig: Rig
    rng: random.Random
    is_current: bool = True
    times_ms: list[int] = field(default_factory=list)
    late_ms: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first_ms = HOUR - HOUR % DAY_MS - 30 * DAY_MS
        for hour_ms in range(first_ms, HOUR + 3 * DAY_MS, EVERY_MS):
            early_ms = [hour_ms - self.rng.randrange(100, 60_000)] if self.rng.random() < 0.2 else []
            self.times_ms += [*early_ms, hour_ms + self.rng.randrange(-20, 21)]
            late_ms = self.rng.choice((0, self.rng.randrange(50 * MINUTE_MS)))
            self.late_ms |= dict.fromkeys(self.times_ms[-2:], late_ms) if early_ms else {self.times_ms[-1]: late_ms}
        clock = TrustedClock(Desk(self.rig))
        self.events = Events(
            clock, self.rig.store, self.rig.holdings, lambda _: True, self._keep, lambda: self.is_current
        )

    async def _keep(self, series: Series, grid: Grid, span: Span, rows: Sequence[Row]) -> None:
        if span:
            await self.hold(span, Columns.of(rows).between(*span))

    async def hold(self, span: Span, rows: Sequence[Row]) -> None:
        await self.rig.committer.commit([Batch(SERIES, Source.REST, Spans([span]), rows)])

    def row(self, time_ms: int) -> FundingRow:
        return FundingRow(time_ms - STAMP_AFTER_OPEN_MS, f"0.{time_ms % 10**8:08}", "5.1", "Regular")

    def truth(self, span: Span) -> list[FundingRow]:
        """The events that open in `span`, published or not."""
        first, last = (bisect_left(self.times_ms, each + STAMP_AFTER_OPEN_MS) for each in span)
        return [self.row(each) for each in self.times_ms[first:last]]

    def answer(self, query: StatisticsQuery) -> list[FundingRow]:
        """The exchange's answer now."""
        now_ms = self.rig.clock.ms
        last_ms = now_ms if query.end_ms is None else min(now_ms, query.end_ms)
        found = [
            self.row(each)
            for each in self.times_ms
            if (query.start_ms or 0) <= each <= last_ms and each + self.late_ms[each] <= now_ms
        ]
        return found[-query.limit :] if query.start_ms is None else found[: query.limit]

    def body(self, rows: Sequence[FundingRow], symbol: str = "BTCUSDT") -> bytes:
        return FUNDING.finished(b"[" + b",".join(FUNDING.encode(row, 0) for row in rows) + b"]", symbol)

    async def held(self, start_ms: int | None, end_ms: int | None, limit: int = 100) -> bytes | None:
        answer = await self.events.held(StatisticsQuery(SERIES, start_ms, end_ms, limit))
        return None if answer is None else answer.body


@asynccontextmanager
async def events(folder: Path, seed: int = 1) -> AsyncIterator[Case]:
    async with rig(folder) as made:
        yield Case(made, random.Random(seed))


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_learned_that_is_not_true_and_what_is_answered_is_the_exchanges(
    tmp_path: Path, seed: int
) -> None:
    """Random questions at random moments, also while an event is late; what is held must be true when all are there."""
    async with events(tmp_path, seed) as case:
        rng, answered = case.rng, 0
        for number in range(400):
            await case.rig.advance(rng.randrange(1, 1_200))
            now_ms = case.rig.clock.ms
            start_ms = now_ms - rng.randrange(12 * DAY_MS) if rng.random() < 0.6 else None
            end_ms = (start_ms or now_ms - 5 * DAY_MS) + rng.randrange(8 * DAY_MS) if rng.random() < 0.5 else None
            query = StatisticsQuery(SERIES, start_ms, end_ms, rng.choice((1, 2, 5, 30, 100)))
            expected = case.answer(query)
            if (answer := await case.events.held(query)) is not None:
                answered += 1
                assert answer.body == case.body(expected), f"question {number}, seed {seed}: {query}"
                assert 0 < answer.fresh_ms <= PAST_MS
            else:
                await case.events.learn(query, case.body(expected))
            for span in case.rig.holdings.ledger(SERIES).held:
                assert span.end_ms <= GRID.floor(now_ms - MINUTE_MS), f"question {number}, seed {seed}: not over yet"
                assert (span.start_ms % HOUR_MS, span.end_ms % HOUR_MS) == (0, 0)
                assert (await case.rig.store.read(SERIES, span, 10_000)).rows == case.truth(span)
        assert answered > 100, f"seed {seed}"


async def test_rows_are_counted_from_the_right_end_and_only_as_far_as_all_is_known(tmp_path: Path) -> None:
    async with events(tmp_path) as case:
        old, new = Span(HOUR - 20 * DAY_MS, HOUR - 10 * DAY_MS), Span(HOUR - 8 * DAY_MS, HOUR)
        await case.hold(old, case.truth(old))
        await case.hold(new, case.truth(new))
        stamp_ms = STAMP_AFTER_OPEN_MS
        in_new, in_old = case.truth(new), case.truth(old)
        assert await case.held(None, None, len(in_new)) == case.body(in_new)
        assert await case.held(None, None, len(in_new) + 1) is None, "what is before is not known"
        first_ms = old.start_ms + stamp_ms
        assert await case.held(first_ms, None, len(in_old)) == case.body(in_old)
        assert await case.held(first_ms - 1, None, 1) is None
        assert await case.held(first_ms, None, len(in_old) + 1) is None, "there may be more in the gap"
        assert await case.held(first_ms, old.end_ms + stamp_ms - 1, 1_000) == case.body(in_old)
        assert await case.held(first_ms, old.end_ms + stamp_ms, 1_000) is None
        event_ms = in_old[5].open_ms + stamp_ms
        assert await case.held(event_ms, event_ms) == case.body(in_old[5:6]), "both bounds belong to the window"
        assert await case.held(event_ms + 1, event_ms + 2) == b"[]"
        assert await case.held(None, event_ms - 1, 1) == case.body(in_old[4:5])
        await case.rig.committer.commit([Batch(SERIES, Source.ABSENT, Spans([Span(0, old.start_ms)]), [])])
        assert await case.held(None, event_ms, 1_000) == case.body(in_old[:6]), "there were none before"
        assert await case.held(0, None, 3) == case.body(in_old[:3])


async def test_what_may_be_wrong_is_not_answered_from_the_store(tmp_path: Path) -> None:
    async with events(tmp_path) as case:
        await case.hold(Span(0, HOUR), case.truth(Span(0, HOUR)))
        assert await case.held(None, None) is not None
        await case.rig.advance((HOUR + HOUR_MS - MINUTE_MS - case.rig.clock.ms) / 1000 - 0.001)
        answer = await case.events.held(StatisticsQuery(SERIES, None, None, 5))
        assert answer is not None
        assert answer.fresh_ms <= 1, "the next event may come a minute before the full hour"
        await case.rig.advance(0.002)
        assert await case.held(None, None) is None
        assert await case.held(None, case.rig.clock.ms - 1_000) is not None
        case.is_current = False
        assert await case.held(None, HOUR - DAY_MS) is None
        case.is_current = True
        case.rig.holdings.doubted = frozenset({"BTCUSDT"})
        assert await case.held(None, HOUR - DAY_MS) is None


@pytest.mark.parametrize("symbol", ["ETHUSDT", ""])
async def test_nothing_is_kept_of_another_symbols_answer(tmp_path: Path, symbol: str) -> None:
    async with events(tmp_path) as case:
        query = StatisticsQuery(SERIES, HOUR - 5 * DAY_MS, HOUR - DAY_MS, 100)
        for body in (case.body(case.answer(query), symbol), b"{}", b"[", b'[{"symbol":"BTCUSDT"}]'):
            await case.events.learn(query, body)
        assert not case.rig.holdings.ledger(SERIES).known
        await case.events.learn(query, case.body(case.answer(query)))
        assert case.rig.holdings.ledger(SERIES).known
