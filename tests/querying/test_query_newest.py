"""The kline in progress, and that no answer presents old klines as the newest."""

from pathlib import Path

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.holding.tail import Live
from app.kinds.klines import LIVE_AGE_MS_MAX
from app.querying.answer import KlineQuery
from app.querying.refusal import RETRY_AFTER_S
from tests.fakes import BTC, NOW_MS, Asked, listing, minute, unavailable
from tests.querying.query_desk import CLOSED_MS, HOURS, desk, opens, refused


async def test_the_live_kline_of_an_hour_has_every_closed_minute(tmp_path: Path) -> None:
    """REST supplied a minute whose closing frame was lost, so the live roll-up lacks it."""
    async with desk(tmp_path) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS - MINUTE_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS - MINUTE_MS))
        answer = await at.answer(HOURS, limit=1, only_final=False)
        assert answer.body == at.oracle(KlineQuery(HOURS, None, None, 1, only_final=False))
        assert len(at.rig.exchange.asked) == 1


async def test_the_live_kline_of_an_hour_does_not_stand_still_when_no_frames_come(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.clock.ms = CLOSED_MS + LIVE_AGE_MS_MAX
        await at.answer(HOURS, limit=1, only_final=False)
        assert at.rig.exchange.asked == []
        at.rig.clock.ms += 1
        await at.answer(HOURS, limit=1, only_final=False)
        assert len(at.rig.exchange.asked) == 1


async def test_a_live_kline_asked_for_by_rest_is_asked_for_again_when_it_is_old(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))
        for _ in range(3):
            await at.answer(only_final=False)
        assert len(at.rig.exchange.asked) == 1
        at.rig.clock.ms += LIVE_AGE_MS_MAX + 1
        await at.answer(only_final=False)
        assert len(at.rig.exchange.asked) == 2


@pytest.mark.parametrize("series", [BTC, HOURS])
async def test_a_live_kline_is_no_younger_than_the_last_frame_of_its_socket(tmp_path: Path, series: Series) -> None:
    """A socket fell silent in the middle of a minute: its last frame is not the present state."""
    async with desk(tmp_path, now_ms=CLOSED_MS + 20_000) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.tail.set_live(BTC, M1.grid, Live(minute("BTCUSDT", CLOSED_MS), CLOSED_MS + 5_000, from_socket=True))
        at.last_seen_ms = CLOSED_MS + 20_000 - LIVE_AGE_MS_MAX
        await at.answer(series, limit=1, only_final=False)
        assert at.rig.exchange.asked == [], "its symbol is quiet, but others on the socket are not"
        at.last_seen_ms = CLOSED_MS + 20_000 - LIVE_AGE_MS_MAX - 1
        await at.answer(series, limit=1, only_final=False)
        assert len(at.rig.exchange.asked) == 1


@pytest.mark.parametrize("is_writer", [True, False])
async def test_when_nobody_writes_the_newest_klines_are_read_through_or_refused(
    tmp_path: Path, *, is_writer: bool
) -> None:
    async with desk(tmp_path, is_writer=is_writer) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.rig.clock.ms = NOW_MS + 5 * MINUTE_MS
        for start_ms in (None, CLOSED_MS - 2 * MINUTE_MS):
            assert opens(await at.answer(start_ms=start_ms, limit=7))[-1] == CLOSED_MS + 4 * MINUTE_MS
        at.rig.clock.ms += MINUTE_MS
        at.rig.exchange.error = unavailable()
        for start_ms in (None, CLOSED_MS - 2 * MINUTE_MS):
            assert (await refused(at, start_ms=start_ms, limit=100)).retry_after_s == RETRY_AFTER_S
        old = await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, limit=40)
        assert len(opens(old)) == 40, "the past is not stale"


@pytest.mark.parametrize("held", [0, 5])
@pytest.mark.parametrize("start_ms", [None, CLOSED_MS - 9 * MINUTE_MS])
async def test_an_answer_of_the_exchange_that_ends_early_is_not_taken_for_the_newest(
    tmp_path: Path, held: int, start_ms: int | None
) -> None:
    async with desk(tmp_path) as at:
        if held:
            await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS - (9 - held) * MINUTE_MS))
        at.rig.exchange.lacking.update({(BTC, CLOSED_MS - MINUTE_MS), (BTC, CLOSED_MS - 2 * MINUTE_MS)})
        assert (await refused(at, start_ms=start_ms, limit=9)).status == 503, (
            "it has a later kline, the one in progress"
        )
        at.rig.exchange.lacking.clear()
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        assert (await refused(at, start_ms=start_ms, limit=9)).status == 503, (
            "the symbol trades, and a later kline was due"
        )
        assert (await refused(at, start_ms=start_ms, limit=9, only_final=False)).status == 503
        at.rig.exchange.symbols = [listing("BTCUSDT", status="SETTLING"), listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        assert opens(await at.answer(start_ms=start_ms, limit=9))[-1] == CLOSED_MS - 3 * MINUTE_MS, (
            "delisted: that is the end"
        )


async def test_a_proof_that_there_is_nothing_newer_becomes_stale(tmp_path: Path) -> None:
    """The exchange answered without klines for half an hour, which was recorded as absent: no proof about now."""
    async with desk(tmp_path) as at:
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 3 * MINUTE_MS, "the exchange still says so"
        assert len(at.rig.exchange.asked) == 1
        at.rig.exchange.error = unavailable()
        assert (await refused(at)).status == 503
        at.rig.exchange.error, at.rig.exchange.last_ms = None, 1 << 60
        assert (await refused(at)).status == 503, "the exchange has them now"
        assert opens(await at.answer())[-1] == CLOSED_MS - MINUTE_MS, "and they were kept"


async def test_of_a_delisted_symbol_nothing_newer_is_asked_for(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.last_ms = CLOSED_MS - 9 * MINUTE_MS
        at.rig.exchange.symbols = [listing("BTCUSDT", status="SETTLING"), listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 10 * MINUTE_MS
        assert at.rig.exchange.asked == []


async def test_a_young_proof_of_absence_needs_no_question(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - MINUTE_MS))
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 2 * MINUTE_MS
        assert at.rig.exchange.asked == []


async def test_by_a_clock_that_nobody_confirmed_no_kline_is_the_newest(tmp_path: Path) -> None:
    """The machine's clock is minutes behind, so the held klines seem to be up to date."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.is_time_known = False
        at.rig.exchange.error = unavailable()
        assert (await refused(at)).retry_after_s == RETRY_AFTER_S
        assert len(opens(await at.answer(end_ms=CLOSED_MS - 1))) == 5, "up to a time that is held"
        assert len(opens(await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, limit=50))) == 50

        async def tell_the_time(_asked: Asked) -> None:
            at.is_time_known = True
            at.rig.clock.ms = NOW_MS + 7 * MINUTE_MS  # every answer of the exchange carries its time

        at.rig.exchange.error, at.rig.exchange.gate = None, tell_the_time
        assert opens(await at.answer())[-1] == CLOSED_MS + 6 * MINUTE_MS


async def test_an_answer_whose_read_through_put_the_clock_right_is_made_anew(tmp_path: Path) -> None:
    """The clock was confirmed, then the machine was suspended; the exchange's first answer corrects the time."""
    async with desk(tmp_path) as at:

        async def tell_the_time(_asked: Asked) -> None:
            at.rig.clock.ms = max(at.rig.clock.ms, NOW_MS + 7 * MINUTE_MS)

        at.rig.exchange.gate = tell_the_time
        assert opens(await at.answer())[-1] == CLOSED_MS + 6 * MINUTE_MS
        assert len(at.rig.exchange.windows()) == 2


async def test_a_time_that_stays_unknown_is_asked_for_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.is_time_known = False
        assert (await refused(at)).status == 503
        assert len(at.rig.exchange.asked) == 1
