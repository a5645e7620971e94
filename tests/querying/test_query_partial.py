"""A query that allows partial answers gets what is held, and a list of every missing kline."""

import random
from pathlib import Path
from typing import Unpack

import pytest

from app.domain.interval import D3, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.tail import Live
from app.kinds.klines import KLINES
from app.ports.errors import StandDown, UpstreamRejected
from app.querying import query as query_module
from app.querying.answer import Shortfall
from tests.fakes import BTC, NOW_MS, encoded, minute, true_grid, unavailable
from tests.patience import PATIENCE_S
from tests.querying.query_desk import CLOSED_MS, Asking, Desk, desk, opens, random_query, refused, scatter
from tests.querying.test_query_shared import Gate


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait for seconds of real time, in which a busy machine may do nothing; tests set their own limits."""
    monkeypatch.setattr(query_module, "PARTIAL_S_MAX", PATIENCE_S)


async def partial(at: Desk, **asked: Unpack[Asking]) -> tuple[list[int], Shortfall]:
    asked["allow_partial"] = True
    answer = await at.answer(**asked)
    assert answer.shortfall is not None
    assert answer.valid_until_ms <= at.rig.clock.ms, "it is true only now"
    return opens(answer), answer.shortfall


async def test_whoever_allows_it_gets_what_is_held_and_is_told_what_is_missing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        start_ms = CLOSED_MS - 50 * MINUTE_MS
        hole, absent_ms = Span(start_ms + 10 * MINUTE_MS, start_ms + 20 * MINUTE_MS), start_ms + 5 * MINUTE_MS
        at.rig.exchange.lacking.add((BTC, absent_ms))
        await at.hold(BTC, Span(start_ms, hole.start_ms), Span(hole.end_ms, CLOSED_MS))
        whole = await at.answer(limit=30, allow_partial=True)
        assert (len(opens(whole)), whole.shortfall) == (30, None)
        at.rig.exchange.error = StandDown(NOW_MS + HOUR_MS, "banned")
        times = [each for each in M1.grid.opens(start_ms, CLOSED_MS) if not hole.start_ms <= each < hole.end_ms]
        times.remove(absent_ms)

        found, lacks = await partial(at, start_ms=start_ms, limit=15)
        assert found == times[:15]
        assert lacks == Shortfall(Span(start_ms, times[14] + MINUTE_MS), 15, 1, (hole,), 10, True)
        found, lacks = await partial(at, start_ms=start_ms, limit=1000)
        assert found == times
        assert lacks == Shortfall(Span(start_ms, CLOSED_MS), 39, 1, (hole,), 10, True)
        found, lacks = await partial(at, limit=35)
        assert found == times[-35:], "counted over what there is"
        assert lacks == Shortfall(Span(times[-35], CLOSED_MS), 35, 1, (hole,), 10, True)
        found, lacks = await partial(at, limit=60)
        assert found == times
        before = Span(CLOSED_MS - 60 * MINUTE_MS, start_ms)
        assert lacks == Shortfall(Span(before.start_ms, CLOSED_MS), 39, 1, (before, hole), 20, True)
        found, lacks = await partial(at, start_ms=hole.start_ms, end_ms=hole.end_ms - 1, limit=5)
        assert (found, lacks.missing, lacks.klines_missing) == ([], (hole,), 10)
        assert (await refused(at, limit=60)).retry_after_s == 3600


@pytest.mark.parametrize("is_writer", [True, False])
async def test_a_partial_answer_never_makes_old_klines_the_newest(tmp_path: Path, *, is_writer: bool) -> None:
    async with desk(tmp_path, is_writer=is_writer, read_through=False) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.rig.clock.ms = NOW_MS + 5 * MINUTE_MS
        found, lacks = await partial(at, limit=4)
        assert found == list(M1.grid.opens(CLOSED_MS - 4 * MINUTE_MS, CLOSED_MS))
        assert lacks.missing == (Span(CLOSED_MS, CLOSED_MS + 5 * MINUTE_MS),)
        found, lacks = await partial(at, limit=4, only_final=False)
        assert found[-1] == CLOSED_MS - MINUTE_MS
        assert lacks.missing == (Span(CLOSED_MS, CLOSED_MS + 6 * MINUTE_MS),), "the kline in progress as well"


async def test_a_partial_answer_by_an_unconfirmed_clock_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.is_time_known = False
        at.rig.exchange.error = unavailable()
        found, lacks = await partial(at)
        assert (len(found), lacks.missing, lacks.is_newest_known) == (5, (), False)
        at.is_time_known = True
        at.rig.exchange.error = None
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        await at.rig.committer.commit(
            [Batch(BTC, Source.ABSENT, Spans([Span(CLOSED_MS, CLOSED_MS + 3 * MINUTE_MS)]), [])]
        )
        at.rig.clock.ms += 3 * MINUTE_MS
        at.rig.exchange.error = unavailable()
        _, lacks = await partial(at)
        assert not lacks.is_newest_known


async def test_a_partial_answer_ends_with_the_kline_in_progress_that_is_known(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))
        at.rig.tail.set_live(BTC, M1.grid, Live(minute("BTCUSDT", CLOSED_MS), NOW_MS, from_socket=True))
        found, lacks = await partial(at, limit=20, only_final=False)
        assert found == list(M1.grid.opens(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS + 1))
        assert (lacks.held, lacks.klines_missing, lacks.window.end_ms) == (10, 10, CLOSED_MS + MINUTE_MS)


async def test_what_no_caller_can_allow(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.error = UpstreamRejected(400, -1121, "Invalid symbol.")
        assert (await refused(at, allow_partial=True)).code == -1121
        at.rig.exchange.error = unavailable()
        error = await refused(at, series=Series(KLINES, "BTCUSDT", D3), allow_partial=True)
        assert error.status == 503, "without a grid nobody can say what is missing"


async def test_every_partial_answer_accounts_for_every_kline_of_its_window(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        partial_answers = whole_answers = 0
        for seed in range(60):
            rng = random.Random(seed)
            series = Series(KLINES, f"P{seed}USDT", rng.choice([M1, INTERVALS["1h"]]))
            grid = true_grid(series.interval)
            closed_ms = grid.floor(CLOSED_MS)
            first_ms = at.rig.exchange.first_ms = closed_ms - rng.randrange(20, 60) * series.interval.grid.step_ms
            at.rig.exchange.error = None
            await scatter(at, rng, series, first_ms, closed_ms)
            at.rig.exchange.error = unavailable()
            for number in range(12):
                query = random_query(rng, series, closed_ms)._replace(allow_partial=True)
                context = f"seed {seed}, question {number}: {query}"
                answer = await at.query.answer(query)
                found, lacks = opens(answer), answer.shortfall
                assert found == sorted(set(found)), context
                assert len(found) <= query.limit, context
                if lacks is None:
                    assert answer.body == at.oracle(query), context
                    whole_answers += 1
                    continue
                partial_answers += 1
                klines = [at.rig.exchange.kline(series, each) for each in found]
                assert answer.body == encoded(series, klines), context
                assert all(lacks.window.start_ms <= each < lacks.window.end_ms for each in found), context
                assert not any(span.start_ms <= each < span.end_ms for span in lacks.missing for each in found), context
                assert lacks.klines_missing == sum(grid.count(*span) for span in lacks.missing), context
                total = grid.count(*lacks.window)
                assert lacks.held + lacks.absent + lacks.klines_missing == total, context
                assert lacks.held == len(found), context
        assert min(partial_answers, whole_answers) > 100


async def test_an_answer_that_takes_longer_than_clients_wait_is_a_refusal_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "ANSWER_S_MAX", 0.2)
    async with desk(tmp_path) as at:
        start_ms = CLOSED_MS - 50 * MINUTE_MS
        await at.hold(BTC, Span(start_ms, start_ms + 20 * MINUTE_MS))
        gate = Gate(at)  # never opened
        refusal = await refused(at, start_ms=start_ms, limit=30)
        assert (refusal.status, refusal.reason) == (503, Reason.SLOW)
        assert refusal.retry_after_s
        assert gate.entered.is_set()
        assert not at.upstream.under_way, "what nobody waits for any more is given up"
        held, shortfall = await partial(at, start_ms=start_ms, limit=30)
        assert (len(held), bool(shortfall.missing)) == (20, True), "who allows it gets what is held"
        monkeypatch.setattr(query_module, "PARTIAL_S_MAX", 0.0)
        assert (await refused(at, start_ms=start_ms, limit=30, allow_partial=True)).reason is Reason.SLOW
