"""Answers about rolling windows are whole or refused, whatever is held, proven absent or unknown."""

import random
from pathlib import Path

import orjson
import pytest

from app.binance.error_body import BinanceError
from app.domain.interval import MINUTE_MS, FixedGrid
from app.domain.ledger import Source
from app.domain.reason import Reason
from app.domain.rollup import added_up
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import encode
from app.querying.answer import END_OF_TIME_MS, Answer
from app.querying.rolling_query import MINUTES_MAX, RollingKlines, RollingQuery, windows_of
from tests.fakes import BTC, NOW_MS
from tests.querying.query_desk import CLOSED_MS, Desk, TrustedClock, desk, scatter

SEEDS = 8
QUERIES = 25


def rolling_of(at: Desk) -> RollingKlines:
    return RollingKlines(TrustedClock(at), at.rig.holdings, at.rig.tail, at.query.answer, lambda: at.wish)


async def answered(at: Desk, query: RollingQuery) -> Answer | BinanceError:
    try:
        return await rolling_of(at).answer(query)
    except BinanceError as error:
        return error


def known(at: Desk) -> Spans:
    tail = at.rig.tail.get(BTC)
    spans = at.rig.holdings.ledger(BTC).known
    return spans | Spans([Span(tail.start_ms, tail.end_ms)]) if tail is not None and tail.rows else spans


def random_query(rng: random.Random) -> RollingQuery:
    step = rng.choice([1, 1, 2, 5, 7])
    length = step + rng.choice([0, 1, 5, 17])

    def moment() -> int | None:
        return None if rng.random() < 0.4 else CLOSED_MS - rng.randrange(-3, 99) * MINUTE_MS + rng.randrange(-1, 2)

    start_ms, end_ms = moment(), moment()
    limit = rng.choice([None, 1, 3, 20])
    return RollingQuery("BTCUSDT", length * MINUTE_MS, step * MINUTE_MS, start_ms, end_ms, limit)


def begins_of(query: RollingQuery, absent: Spans) -> list[int]:
    """When the windows of a query begin: multiples of its step, each window over by now and not wholly `absent`."""
    first_ms = CLOSED_MS - 600 * query.step_ms if query.start_ms is None else query.start_ms
    last_ms = CLOSED_MS - query.length_ms if query.end_ms is None else min(CLOSED_MS - query.length_ms, query.end_ms)
    minutes = range(first_ms - first_ms % MINUTE_MS, last_ms + 1, MINUTE_MS)
    begins = [each for each in minutes if each >= first_ms and each % query.step_ms == 0]
    begins = [each for each in begins if not absent.covers(Span(each, each + query.length_ms))]
    limit = query.limit or 500
    return begins[-limit:] if query.start_ms is None else begins[:limit]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_windows_equal_brute_force_or_name_what_is_not_held(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    answers = refusals = 0
    async with desk(tmp_path, read_through=False, first_ms=CLOSED_MS - 60 * MINUTE_MS) as at:
        await scatter(at, rng, BTC, CLOSED_MS - 60 * MINUTE_MS, CLOSED_MS)
        if rng.random() < 0.7:
            await at.hold(BTC, Span(CLOSED_MS - 55 * MINUTE_MS, CLOSED_MS - rng.choice([0, 0, 9]) * MINUTE_MS))
        for _ in range(QUERIES):
            query = random_query(rng)
            found, context = await answered(at, query), f"seed {seed}: {query}"
            begins = begins_of(query, at.rig.holdings.ledger(BTC).absent)
            span = Span(begins[0], begins[-1] + query.length_ms) if begins else Span(0, 0)
            missing = list(known(at).complement(span)) if span else []
            if missing:
                assert isinstance(found, BinanceError), context
                assert (found.status, found.reason) == (503, Reason.NOT_HELD), context
                assert f"{missing[0].start_ms}-{missing[0].end_ms}" in found.msg, context
                refusals += 1
                continue
            assert isinstance(found, Answer), f"{context}: {found}"
            opens = at.rig.exchange.opens(BTC, span)
            minutes = [at.rig.exchange.kline(BTC, each) for each in opens]
            naive = []
            for begin_ms in begins:
                parts = [each for each in minutes if begin_ms <= each.open_ms < begin_ms + query.length_ms]
                if (made := added_up(parts, begin_ms)) is not None:
                    naive.append(encode(made, begin_ms + query.length_ms - 1))
            assert found.body == b"[" + b",".join(naive) + b"]", context
            answers += 1
    assert answers + refusals == QUERIES


async def test_the_newest_windows_need_a_clock_that_is_right_and_old_ones_do_not(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        await at.hold(BTC, Span(CLOSED_MS - 60 * MINUTE_MS, CLOSED_MS))
        newest = RollingQuery("BTCUSDT", 10 * MINUTE_MS, 5 * MINUTE_MS, limit=2)
        answer = await answered(at, newest)
        assert isinstance(answer, Answer)
        next_end_ms = CLOSED_MS // (5 * MINUTE_MS) * (5 * MINUTE_MS) + 5 * MINUTE_MS
        assert answer.valid_until_ms == next_end_ms, "the next window ends then"
        at.is_time_known = False
        refused = await answered(at, newest)
        assert isinstance(refused, BinanceError)
        assert refused.reason is Reason.CLOCK
        old = await answered(at, newest._replace(end_ms=CLOSED_MS - 30 * MINUTE_MS))
        assert isinstance(old, Answer)
        assert old.valid_until_ms == END_OF_TIME_MS


async def test_what_is_proven_absent_is_left_out_and_a_window_of_nothing_else_has_no_row(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        hole = Span(CLOSED_MS - 30 * MINUTE_MS, CLOSED_MS - 20 * MINUTE_MS)
        await at.hold(BTC, Span(CLOSED_MS - 60 * MINUTE_MS, hole.start_ms), Span(hole.end_ms, CLOSED_MS))
        query = RollingQuery("BTCUSDT", 5 * MINUTE_MS, MINUTE_MS, hole.start_ms, hole.end_ms)
        assert isinstance(await answered(at, query), BinanceError), "the hole is unknown"
        await at.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([hole]), [])])
        answer = await answered(at, query)
        assert isinstance(answer, Answer)
        assert answer.body.count(b"],[") + 1 == 11 - 6, "six of the windows lie in the hole"


async def test_windows_that_are_wholly_proven_absent_do_not_count_against_the_limit(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        first_ms, step_ms = BTC.interval.grid.ceil(CLOSED_MS - 300 * MINUTE_MS), 5 * MINUTE_MS
        hole = Span(first_ms + 100 * MINUTE_MS, first_ms + 200 * MINUTE_MS)
        await at.hold(BTC, Span(first_ms, hole.start_ms), Span(hole.end_ms, CLOSED_MS))
        await at.rig.committer.commit([Batch(BTC, Source.ABSENT, Spans([Span(0, first_ms), hole]), [])])
        query = RollingQuery("BTCUSDT", 2 * step_ms, step_ms, limit=30)
        for asked in (query._replace(start_ms=0), query._replace(start_ms=first_ms - 99 * step_ms), query):
            answer = await answered(at, asked)
            assert isinstance(answer, Answer)
            begins = [row[0] for row in orjson.loads(answer.body)]
            assert len(begins) == 30, f"{asked}: the windows in the hole are skipped"
            assert begins[0] < hole.start_ms < hole.end_ms < begins[-1]
            if asked.start_ms is not None:
                assert begins[0] == FixedGrid(step_ms).ceil(first_ms + 1 - query.length_ms)
                assert answer.touches.start_ms <= FixedGrid(step_ms).ceil(asked.start_ms)
        alone = await answered(at, query._replace(start_ms=0, end_ms=first_ms - 2 * step_ms))
        assert isinstance(alone, Answer)
        assert (alone.body, alone.touches.start_ms) == (b"[]", 0), "a first kline that comes after all changes it"
        assert alone.touches.end_ms > first_ms - 2 * step_ms


def test_an_answer_has_as_many_windows_as_its_minutes_allow() -> None:
    day_ms = 1440 * MINUTE_MS
    query = RollingQuery("BTCUSDT", 7 * day_ms, day_ms)
    assert query.windows_max == 28
    (windows,), _, is_newest = windows_of(query, NOW_MS, Spans())
    assert (windows.number, is_newest) == (28, True)
    assert windows.end_ms - windows.first_ms <= MINUTES_MAX * MINUTE_MS
