"""In the seconds after a close, an answer that ends with the kline in progress shows the new one, as the exchange does.

The exchange shows the next kline at once. Here the previous one is closed by its frame, or CLOSE_GRACE_MS later.
"""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from app.domain.interval import INTERVALS, M1, MINUTE_MS, MO1
from app.domain.series import Series
from app.domain.span import Span
from app.holding.tail import Live
from app.holding.wish import CLOSE_GRACE_MS
from app.kinds.klines import KLINES
from app.kinds.price_klines import MARK
from app.market.endpoints import ENDPOINTS, Question
from app.querying.answer import Answer, KlineQuery
from app.querying.in_progress import ENDED_AGE_MS_MAX, READS_AT_CLOSE_MAX
from app.querying.window import closed_end_ms, window_of
from tests.fakes import BTC, Asked, minute, unavailable
from tests.querying.query_desk import Desk, desk, opens, refused

CLOSE_MS: Final = MO1.grid.floor(1_764_547_200_000)  # 2025-12-01: an hour, a day and a month close at the same time
LAST_MS: Final = CLOSE_MS - MINUTE_MS


def live(open_ms: int, heard_ms: int) -> Live:
    return Live(minute("BTCUSDT", open_ms), heard_ms, from_socket=True)


async def hold(at: Desk, series: Series, state: str) -> None:
    """Bring the series into `state`, one of those in which a close can find it."""
    grid = series.interval.grid
    last_ms = grid.shift(CLOSE_MS, -1)
    if state != "nothing held":
        await at.hold(series, Span(grid.shift(last_ms, -8), last_ms))
        for open_ms in grid.opens(grid.shift(last_ms, -4), last_ms):
            at.rig.tail.append(series, grid, at.rig.exchange.kline(series, open_ms))
    if state == "old kline in progress":
        at.rig.tail.set_live(series, grid, Live(at.rig.exchange.kline(series, last_ms), CLOSE_MS - 9, from_socket=True))
    if state == "next frame overtook the closing one":
        at.rig.tail.set_live(series, grid, Live(at.rig.exchange.kline(series, CLOSE_MS), CLOSE_MS, from_socket=True))
    if state == "closed":
        at.rig.tail.append(series, grid, at.rig.exchange.kline(series, last_ms))


@pytest.mark.parametrize("after_ms", [0, 1, 900, CLOSE_GRACE_MS - 1, CLOSE_GRACE_MS])
@pytest.mark.parametrize(
    "state",
    ["nothing held", "frames", "old kline in progress", "next frame overtook the closing one", "closed"],
)
@pytest.mark.parametrize("code", ["1m", "1h", "1d", "price"])
async def test_every_window_is_the_exchanges(tmp_path: Path, code: str, state: str, after_ms: int) -> None:
    series = Series(MARK, "BTCUSDT", M1) if code == "price" else Series(KLINES, "BTCUSDT", INTERVALS[code])
    grid, rng = series.interval.grid, random.Random(f"{code} {state} {after_ms}")
    first_ms = grid.shift(CLOSE_MS, -30)
    async with desk(tmp_path, now_ms=CLOSE_MS + after_ms, first_ms=first_ms) as at:
        await hold(at, series, state)
        for number in range(25):
            around = [grid.shift(CLOSE_MS, steps) + ms for steps in (-5, -2, -1, 0, 1) for ms in (-1, 0, 1, 500)]
            start_ms, end_ms = rng.choice([None, *around]), rng.choice([None, None, *around])
            if start_ms is not None and end_ms is not None and start_ms > end_ms:
                start_ms, end_ms = end_ms, start_ms
            query = KlineQuery(series, start_ms, end_ms, rng.choice([1, 2, 3, 5, 12]), only_final=False)
            query = query._replace(allow_partial=rng.random() < 0.3)
            answer = await at.answer_or_error(query)
            assert isinstance(answer, Answer), f"{number}: {query}"
            assert answer.body == at.oracle(query), f"{number}: {query}"
            assert answer.shortfall is None
            assert not answer.is_live or answer.valid_until_ms <= at.rig.clock.ms + 1_000


async def test_what_rest_says_of_the_two_is_asked_for_once(tmp_path: Path) -> None:
    async with desk(tmp_path, now_ms=CLOSE_MS + 100, first_ms=CLOSE_MS - 60 * MINUTE_MS) as at:
        await hold(at, BTC, "old kline in progress")
        for limit in (1, 2, 5):
            assert opens(await at.answer(limit=limit, only_final=False))[-1] == CLOSE_MS
        assert len(at.rig.exchange.asked) == 1
        at.rig.clock.ms += ENDED_AGE_MS_MAX + 1
        at.rig.tail.set_live(BTC, M1.grid, live(CLOSE_MS, at.rig.clock.ms))
        assert opens(await at.answer(only_final=False))[-2:] == [LAST_MS, CLOSE_MS]
        assert len(at.rig.exchange.asked) == 2, "late trades may have changed what has just closed"
        at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", LAST_MS))
        at.rig.clock.ms += ENDED_AGE_MS_MAX + 1
        assert opens(await at.answer(only_final=False))[-2:] == [LAST_MS, CLOSE_MS]
        assert len(at.rig.exchange.asked) == 2, "the closing frame is in"


async def test_while_the_exchange_cannot_be_asked_the_closing_frame_is_waited_for(tmp_path: Path) -> None:
    async with desk(tmp_path, now_ms=CLOSE_MS + 100) as at:
        await hold(at, BTC, "old kline in progress")
        at.rig.exchange.error = unavailable()
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(at.answer(limit=limit, only_final=False)) for limit in (1, 2, 5)]
            await at.rig.store.settled()
            at.rig.tail.set_live(BTC, M1.grid, live(CLOSE_MS, at.rig.clock.ms))
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", LAST_MS))
        assert [opens(each.result())[-2:] for each in asking] == [[CLOSE_MS], [LAST_MS, CLOSE_MS], [LAST_MS, CLOSE_MS]]


async def test_a_closing_frame_that_does_not_come_is_waited_for_no_longer_than_the_grace(tmp_path: Path) -> None:
    async with desk(tmp_path, now_ms=CLOSE_MS + CLOSE_GRACE_MS - 1) as at:
        await hold(at, BTC, "old kline in progress")
        at.rig.exchange.error = unavailable()
        assert (await refused(at, only_final=False)).status == 503, "not one kline early"


@pytest.mark.parametrize("state", ["nothing held", "frames"])
async def test_what_cannot_be_had_at_a_close_is_counted_as_missing(tmp_path: Path, state: str) -> None:
    async with desk(tmp_path, now_ms=CLOSE_MS + CLOSE_GRACE_MS - 1) as at:
        await hold(at, BTC, state)
        at.rig.exchange.error = unavailable()
        answer = await at.answer(limit=4, only_final=False, allow_partial=True)
        assert answer.shortfall is not None
        assert answer.shortfall.window.end_ms == CLOSE_MS + MINUTE_MS
        assert answer.shortfall.missing[-1].end_ms == CLOSE_MS + MINUTE_MS
        held = (
            [] if state == "nothing held" else [LAST_MS - 3 * MINUTE_MS, LAST_MS - 2 * MINUTE_MS, LAST_MS - MINUTE_MS]
        )
        assert opens(answer) == held


async def test_bots_that_ask_for_everything_at_a_close_wait_for_its_frames(tmp_path: Path) -> None:
    series = [Series(KLINES, f"S{number}USDT", M1) for number in range(4 * READS_AT_CLOSE_MAX)]
    async with desk(tmp_path, now_ms=CLOSE_MS + 100) as at:
        for each in series:
            for open_ms in M1.grid.opens(LAST_MS - 9 * MINUTE_MS, LAST_MS):
                at.rig.tail.append(each, M1.grid, minute(each.symbol, open_ms))
        answer_now = asyncio.Event()

        async def gate(_asked: Asked) -> None:
            await answer_now.wait()

        at.rig.exchange.gate = gate
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(at.answer(each, limit=3, only_final=False)) for each in series]
            await at.rig.store.settled()
            assert len(at.rig.exchange.asked) == READS_AT_CLOSE_MAX
            for each in series:
                frame = Live(minute(each.symbol, CLOSE_MS), at.rig.clock.ms, from_socket=True)
                at.rig.tail.set_live(each, M1.grid, frame)
                at.rig.tail.append(each, M1.grid, minute(each.symbol, LAST_MS))
            answer_now.set()
        assert {tuple(opens(each.result())) for each in asking} == {(LAST_MS - MINUTE_MS, LAST_MS, CLOSE_MS)}
        assert len(at.rig.exchange.asked) == READS_AT_CLOSE_MAX


@pytest.mark.parametrize("after_ms", [0, CLOSE_GRACE_MS - 1])
def test_the_month_that_has_just_closed_is_one_of_two(after_ms: int) -> None:
    november_ms, now_ms = MO1.grid.shift(CLOSE_MS, -1), CLOSE_MS + after_ms
    every = KlineQuery(Series(KLINES, "BTCUSDT", MO1), None, None, 5, only_final=False)
    for asked, ahead in (
        (every, slice(0, None)),
        (every._replace(end_ms=CLOSE_MS - 1), slice(0, 1)),
        (every._replace(start_ms=CLOSE_MS, end_ms=now_ms + 1), slice(1, 2)),
        (every._replace(start_ms=november_ms + 1, end_ms=november_ms + 2), None),
        (every._replace(start_ms=now_ms + 2), None),
        (every._replace(only_final=True), None),
    ):
        assert closed_end_ms(MO1.grid, None, now_ms) == november_ms
        assert window_of(asked, MO1.grid, november_ms, now_ms).ahead == ahead, asked


@pytest.mark.parametrize("path", ["continuousKlines", "indexPriceKlines", "markPriceKlines", "premiumIndexKlines"])
@pytest.mark.parametrize(("left_ms", "holds_ms"), [(5_000, 1_000), (400, 400), (1, 1), (0, 1_000), (-200, 1_000)])
def test_an_answer_that_is_passed_through_holds_no_longer_than_its_last_kline(
    path: str, left_ms: int, holds_ms: int
) -> None:
    question = Question(f"/fapi/v1/{path}", (("interval", "1m"), ("limit", "1")))
    body = b'[[%d,"1","1","1","1","0",%d,"0",1,"0","0","0"]]' % (LAST_MS, CLOSE_MS - 1)
    assert ENDPOINTS[question.path].holds(question, body, CLOSE_MS - left_ms) == holds_ms
