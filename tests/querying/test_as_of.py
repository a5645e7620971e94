"""Answers as of a past time are whole or refused, and have nothing that came later."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.binance.error_body import BinanceError
from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow
from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.inventory import Inventory
from app.holding.rest_forms import RestForms
from app.kinds.funding import FUNDING
from app.kinds.metrics import METRICS
from app.ports.errors import NotRecorded
from app.querying.answer import KlineQuery
from app.querying.as_of import READERS_MAX, SETTLED_MS, AsOf
from app.querying.statistics import StatisticsQuery
from tests.fakes import BTC, NOW_MS, Rig, rig
from tests.market.held_whole import wish_of
from tests.sqlite.material import kline

CLOSED_MS = NOW_MS - 30_000
FIRST_MS = CLOSED_MS - 20 * MINUTE_MS
LATER_MS = NOW_MS + 2 * SETTLED_MS
OPEN_INTEREST = Series(METRICS["openInterestHist"], "BTCUSDT", INTERVALS["5m"])
FUNDINGS = Series(FUNDING, "BTCUSDT", INTERVALS["1h"])


@dataclass
class Case:
    """A store with 20 klines but for two in their middle, and nothing before them; they came at NOW_MS."""

    rig: Rig
    as_of: AsOf

    async def hold(self, series: Series, source: Source, span: Span, rows: list[Any]) -> None:
        await self.rig.committer.commit([Batch(series, source, Spans([span]), rows)])

    async def klines(
        self,
        at_ms: int,
        limit: int = 500,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        partial: bool = False,
    ) -> Any:
        return await self.as_of.klines(KlineQuery(BTC, start_ms, end_ms, limit, True, partial), at_ms)

    async def opens(
        self, at_ms: int, limit: int = 500, *, start_ms: int | None = None, end_ms: int | None = None
    ) -> list[int]:
        """The places of the answer's rows."""
        body = (await self.klines(at_ms, limit, start_ms=start_ms, end_ms=end_ms)).body
        return [(row[0] - FIRST_MS) // MINUTE_MS for row in json.loads(body)]

    async def rows(self, series: Series, at_ms: int, limit: int, start_ms: int | None = None) -> list[Any]:
        answer = await self.as_of.rows(StatisticsQuery(series, start_ms, None, limit), at_ms)
        found: list[Any] = json.loads(answer.body)
        return found


def place(number: int) -> int:
    return FIRST_MS + number * MINUTE_MS


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with rig(tmp_path) as made:
        forms = RestForms(made.clock, made.store, made.observe, lambda symbol: None)
        as_of = AsOf(made.clock, made.store, Inventory(made.holdings, lambda: wish_of("1m")), forms)
        case = Case(made, as_of)
        for span in (Span(place(0), place(8)), Span(place(10), place(20))):
            rows = [kline(open_ms) for open_ms in range(*span, MINUTE_MS)]
            await case.hold(BTC, Source.WS, span, rows)
        await case.hold(BTC, Source.ABSENT, Span(0, place(0)), [])
        made.clock.ms = LATER_MS
        yield case


async def test_klines_are_whole_or_refused_and_the_late_ones_are_not_there(case: Case) -> None:
    await case.hold(BTC, Source.REST, Span(place(8), place(10)), [kline(place(8)), kline(place(9))])
    await case.hold(BTC, Source.REST, Span(place(18), place(19)), [kline(place(18), mark=1)])
    assert await case.opens(LATER_MS, start_ms=place(0), end_ms=place(19)) == list(range(20))
    assert await case.opens(NOW_MS, 10) == list(range(10, 20))
    assert await case.opens(NOW_MS, start_ms=place(2), end_ms=place(7)) == [2, 3, 4, 5, 6, 7]
    assert await case.opens(NOW_MS, 3, start_ms=place(5)) == [5, 6, 7], "whole before the hole"
    before, after = [(await case.klines(at_ms, 2, end_ms=place(19))).body for at_ms in (LATER_MS - 1, LATER_MS)]
    assert (before == after, len(json.loads(before))) == (False, 2), "row 18 was repaired"
    with pytest.raises(BinanceError) as refused:
        await case.opens(NOW_MS, start_ms=place(5))
    assert (refused.value.status, refused.value.reason, refused.value.retry_after_s) == (503, Reason.NOT_HELD, None)
    assert f"nothing is known of {place(8)} to {place(10)}" in refused.value.msg
    partial = await case.klines(NOW_MS, partial=True, start_ms=place(5))
    assert (partial.shortfall.missing, partial.shortfall.held) == ((Span(place(8), place(10)),), 13)


async def test_an_hour_without_the_node_is_missing_at_its_end_and_a_hole_is_named(case: Case) -> None:
    await case.hold(BTC, Source.ABSENT, Span(place(8), place(10)), [])
    answer = await case.klines(LATER_MS, start_ms=place(0), end_ms=place(19))
    assert answer.holes == (Span(place(8), place(10)),)
    with pytest.raises(BinanceError) as refused:
        await case.opens(LATER_MS, 5)
    assert refused.value.reason is Reason.NOT_HELD, "klines had closed that nobody had fetched"
    with pytest.raises(BinanceError) as refused:
        await case.opens(NOW_MS - 1)
    assert (refused.value.status, refused.value.code) == (400, -1130)
    with pytest.raises(BinanceError) as refused:
        await case.opens(LATER_MS + 1)
    assert f"as_of={LATER_MS + 1} is in the future" in refused.value.msg


async def test_statistics_and_events_end_with_the_newest_that_was_held(case: Case) -> None:
    step_ms, kind = OPEN_INTEREST.interval.grid.step_ms, OPEN_INTEREST.kind
    first_ms = OPEN_INTEREST.interval.grid.floor(FIRST_MS)
    span = Span(first_ms, first_ms + 3 * step_ms)
    for source, number in ((Source.ARCHIVE, "1.5"), (Source.REST, "2.5")):
        case.rig.clock.ms += 1_000
        rows = [kind.row(open_ms, number, number, None) for open_ms in range(*span, step_ms)]
        await case.hold(OPEN_INTEREST, source, span, rows)
    hour_ms = FUNDINGS.interval.grid.floor(FIRST_MS - HOUR_MS)
    event = FundingRow(hour_ms + 40 * MINUTE_MS, "0.0001", None, None)
    for events in ([], [event]):
        case.rig.clock.ms += 1_000
        await case.hold(FUNDINGS, Source.REST, Span(hour_ms, hour_ms + HOUR_MS), events)
    for at_ms, number in ((LATER_MS + 1_999, "1.5"), (LATER_MS + 2_000, "2.5")):
        assert [row["sumOpenInterest"] for row in await case.rows(OPEN_INTEREST, at_ms, 2)] == [number] * 2
    start_ms = hour_ms + STAMP_AFTER_OPEN_MS
    for at_ms, found in ((LATER_MS + 3_000, 0), (LATER_MS + 4_000, 1)):
        assert len(await case.rows(FUNDINGS, at_ms, 9, start_ms)) == found
    for series in (OPEN_INTEREST, FUNDINGS):
        with pytest.raises(BinanceError) as refused:
            await case.rows(series, LATER_MS, 2)
        assert refused.value.reason is Reason.NOT_HELD


@pytest.mark.parametrize("series", [OPEN_INTEREST, FUNDINGS], ids=str)
async def test_there_are_no_rows_after_the_time_that_is_asked_about(case: Case, series: Series) -> None:
    assert await case.rows(series, NOW_MS, 9, NOW_MS + 1) == []
    assert await case.rows(series, NOW_MS, 9, NOW_MS + HOUR_MS) == []
    with pytest.raises(BinanceError) as nothing:
        await case.rows(series, NOW_MS, 9, NOW_MS - 2 * HOUR_MS)
    assert (nothing.value.reason, nothing.value.retry_after_s) == (Reason.NOT_HELD, None)
    assert "nothing is known of that window" in nothing.value.msg, "and not of a span that ends before it starts"


async def test_coverage_is_the_ledger_of_then_and_few_past_states_are_kept(case: Case) -> None:
    await case.hold(BTC, Source.REST, Span(place(8), place(10)), [kline(place(8)), kline(place(9))])
    case.rig.clock.ms += 2 * SETTLED_MS
    for at_ms, runs in ((NOW_MS, 2), (LATER_MS, 3)):
        report: Any = await case.as_of.coverage("BTCUSDT", None, 0, 1, at_ms, incomplete=False)
        [found] = report["series"]
        assert (len(found["held"]), found["absent"]) == (runs, [{"start": 0, "end": FIRST_MS}])
        assert not {"verified", "revisions"} & found.keys()
    with pytest.raises(NotRecorded, match=f"recorded from {NOW_MS} on"):
        await case.as_of.coverage(None, None, 0, 1, NOW_MS - 1, incomplete=False)
    for each in range(2 * READERS_MAX):
        await case.opens(NOW_MS + each, 1)
    assert len(case.as_of._readers) == READERS_MAX
