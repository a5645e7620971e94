"""Bars are the held klines or their exact sums, and what is absent, missing, disputed or revised is marked."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.domain.rollup import added_up
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds.klines import KLINES
from app.ports.store import Disagreement
from app.querying.bars import BARS_MAX, Bars, BarsQuery, plan_of
from tests.fakes import BTC
from tests.querying.query_desk import CLOSED_MS, DAYS, Desk, TrustedClock, desk, scatter

FIRST_MS = CLOSED_MS - 120 * MINUTE_MS


def bars_of(at: Desk) -> Bars:
    return Bars(TrustedClock(at), at.rig.holdings, at.rig.tail, at.query.answer, at.rig.store.revised)


async def answered(at: Desk, start_ms: int | None, end_ms: int | None, bars: int) -> dict[str, Any]:
    answer = await bars_of(at).answer(BarsQuery(BTC, start_ms, end_ms, bars))
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def rows_of(found: dict[str, Any]) -> list[tuple[object, ...]]:
    return list(zip(*found["bars"].values(), strict=True))


@pytest.mark.parametrize("seed", range(6))
async def test_bars_equal_the_sums_of_held_klines_and_every_hole_is_marked(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with desk(tmp_path, read_through=False, first_ms=FIRST_MS) as at:
        await scatter(at, rng, BTC, FIRST_MS, CLOSED_MS)
        ledger, exchange, tail = at.rig.holdings.ledger(BTC), at.rig.exchange, at.rig.tail.get(BTC)
        recent = Spans([Span(tail.start_ms, tail.end_ms)]) if tail is not None and tail.rows else Spans()
        for _ in range(12):
            start_ms = rng.choice([None, FIRST_MS + rng.randrange(-5, 100) * MINUTE_MS + rng.randrange(2)])
            end_ms = rng.choice([None, CLOSED_MS + rng.randrange(-20, 9) * MINUTE_MS])
            most = rng.choice([1, 7, 50, 500])
            context = f"seed {seed}: {start_ms} {end_ms} {most}"
            found = await answered(at, start_ms, end_ms, most)
            span, step_ms = Span(found["start"], found["end"]), found["step"]
            rows = rows_of(found)
            assert len(rows) <= most, context
            assert start_ms is None or span.start_ms <= start_ms + MINUTE_MS, context
            held = [each for part in (ledger.held | recent).clip(span) for each in exchange.opens(BTC, part)]
            made = []
            for begin_ms in range(span.start_ms, span.end_ms, step_ms):
                parts = [exchange.kline(BTC, each) for each in held if begin_ms <= each < begin_ms + step_ms]
                if (bar := added_up(parts, begin_ms)) is not None:
                    made.append((*bar[:6], bar.trades))
            assert rows == made, context
            known = ledger.known | recent
            assert [tuple(each) for each in found["missing"]] == list(known.complement(span)), context
            assert [tuple(each) for each in found["absent"]] == list(ledger.absent.clip(span)), context


async def test_revised_and_disputed_klines_are_marked(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False, first_ms=FIRST_MS) as at:
        await at.hold(BTC, Span(FIRST_MS, CLOSED_MS))
        five = INTERVALS["5m"]
        begin_ms = five.grid.ceil(FIRST_MS)
        at.rig.holdings.set_disagreement(Disagreement(BTC, begin_ms, five, "[]", "[]", CLOSED_MS))
        asked: list[tuple[Span, int]] = []

        async def revised(_series: Series, window: Span, limit: int) -> list[int]:
            asked.append((window, limit))
            return [begin_ms + MINUTE_MS]

        bars = Bars(TrustedClock(at), at.rig.holdings, at.rig.tail, at.query.answer, revised)
        answer = await bars.answer(BarsQuery(BTC, FIRST_MS, CLOSED_MS - 1, 500))
        found = orjson.loads(answer.body)
        assert found["disputed"] == [[begin_ms, begin_ms + 5 * MINUTE_MS]]
        assert found["revised"] == [begin_ms + MINUTE_MS]
        assert found["omitted"] is False
        assert [window for window, _ in asked] == [Span(FIRST_MS, CLOSED_MS)]
        assert answer.touches == Span(FIRST_MS, CLOSED_MS)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_covers_what_is_asked_for_in_whole_bars_and_never_too_many(seed: int) -> None:
    rng = random.Random(seed)
    end_ms = rng.choice([None, CLOSED_MS - rng.randrange(10**9)])
    start_ms = rng.choice([None, CLOSED_MS - rng.randrange(10**11)])
    series = rng.choice([BTC, DAYS, Series(KLINES, "BTCUSDT", INTERVALS["15m"])])
    grid = series.interval.grid
    query = BarsQuery(series, start_ms, end_ms, rng.randrange(1, BARS_MAX), 1 if series == DAYS else rng.choice([1, 7]))
    plan = plan_of(query, grid, grid.floor(CLOSED_MS))
    step_ms = plan.stride * grid.step_ms
    assert plan.stride >= query.stride
    assert -(-(plan.span.end_ms - plan.span.start_ms) // step_ms) <= query.bars, f"seed {seed}: {query}"
    if start_ms is not None and plan.span:
        assert plan.span.start_ms <= grid.ceil(start_ms), f"seed {seed}: {query}"
    if start_ms is None:
        assert plan.stride == query.stride, f"seed {seed}: {query}: the newest bars are as long as was asked for"
    if plan.stride > 1:
        assert plan.span.start_ms % step_ms == 0, f"seed {seed}: {query}"
        assert plan.span.end_ms in (grid.floor(CLOSED_MS), -(-plan.span.end_ms // step_ms) * step_ms)


@pytest.mark.parametrize("code", ["3d", "1w", "1M"])
def test_intervals_of_more_than_a_day_are_never_added_up(code: str) -> None:
    grid = INTERVALS[code].grid
    series = Series(KLINES, "BTCUSDT", INTERVALS[code])
    plan = plan_of(BarsQuery(series, CLOSED_MS - 2_000 * DAY_MS, None, 5), grid, grid.floor(CLOSED_MS))
    assert plan.stride == 1
    assert plan_of(BarsQuery(series, None, None, BARS_MAX), grid, grid.floor(CLOSED_MS)).span.start_ms >= 0
