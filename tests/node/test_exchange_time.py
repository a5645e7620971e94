"""The node's clock runs on the exchange's time, whatever the machine's clock says."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.domain.interval import HOUR_MS
from app.node.exchange_clock import HEARD_AHEAD_MS, MEASURE_EVERY_S, RETRY_S, ExchangeClock, KeptTime
from app.ports.errors import StoreUnavailable
from tests.fakes import NOW_MS, Rig, nobody_keeps, rig, running, unavailable


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as here:
        yield here


async def test_the_clock_runs_on_the_exchanges_time(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.time_offset_ms = 7_000
    await clock.measure(made.exchange)
    assert (clock.offset_ms, clock.now_ms()) == (7_000, NOW_MS + 7_000)
    made.exchange.time_offset_ms = 7_030
    await clock.measure(made.exchange)
    assert clock.offset_ms == 7_000, "within the error of measurement"


async def test_a_slow_answer_says_nothing_about_the_time_and_is_asked_for_again_soon(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.time_offset_ms, made.exchange.time_takes_s = -5_000, 4.0
    async with running(lambda: clock.run(made.exchange, random.Random(1), nobody_keeps)):
        await made.advance(5)
        assert clock.offset_ms == 0
        made.exchange.time_takes_s = 0.5
        await made.advance(2 * RETRY_S)
        assert abs(clock.offset_ms + 5_000) <= 500


async def test_the_time_is_measured_again_and_failures_are_outlived(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    made.exchange.error = unavailable()
    async with running(lambda: clock.run(made.exchange, random.Random(1), nobody_keeps)):
        await made.advance(RETRY_S / 2)
        made.exchange.error = None
        made.exchange.time_offset_ms = 900
        await made.advance(RETRY_S)
        assert clock.offset_ms == 900
        made.exchange.time_offset_ms = 400
        await made.advance(1.2 * MEASURE_EVERY_S)
        assert clock.offset_ms == 400


async def test_setting_the_clock_moves_no_time_that_the_exchange_has_told(made: Rig) -> None:
    """Found by the simulation: a clock put back by hours during a ban prolonged it by hours and stopped ingest."""
    clock = ExchangeClock(made.clock)
    trusted = [clock.is_trusted]
    await clock.measure(made.exchange)
    told_ms = clock.now_ms()
    for by_ms in (HOUR_MS, -3 * HOUR_MS, 400):
        made.clock.put(by_ms)
        assert clock.now_ms() == told_ms
    assert clock.offset_ms == told_ms - made.clock.now_ms()
    assert [*trusted, clock.is_trusted] == [False, True]


async def test_frames_set_the_time_when_they_agree_for_as_long_as_a_request_would_have_taken(made: Rig) -> None:
    """Found by the simulation: started during a ban with a slow clock, the node dropped every frame as too early."""
    clock = ExchangeClock(made.clock)
    for second in range(HEARD_AHEAD_MS // 1000):
        clock.heard(made.clock.ms + 420_000 + second % 3)
        made.clock.ms += 1_000
    assert clock.offset_ms == 0
    clock.heard(made.clock.ms + 9_000_000)
    assert clock.offset_ms == 420_000, "by the least of them: one wrong frame moves nothing"
    clock.heard(made.clock.ms + 420_000)
    assert clock.is_trusted


async def test_the_offset_is_kept_for_the_next_start(made: Rig) -> None:
    """Found by the simulation: restarted with a clock that is ahead, the node took a ban for over."""
    kept: list[KeptTime] = []

    async def keep(time: KeptTime) -> None:
        kept.append(time)
        if len(kept) == 1:
            raise StoreUnavailable("full")

    clock = ExchangeClock(made.clock)
    made.exchange.time_offset_ms = -420_000
    async with running(lambda: clock.run(made.exchange, random.Random(1), keep)):
        await made.advance(3 * MEASURE_EVERY_S)
        made.clock.put(3_000)
        made.exchange.time_offset_ms -= 3_000
        await made.advance(3 * RETRY_S)
    offsets_ms = [time.offset_ms for time in kept]
    assert offsets_ms == [-420_000, -420_000, -423_000], "tried again when it failed, never the same twice"
    again = ExchangeClock(made.clock)
    again.assume(kept[-1]._replace(boot="another boot"))
    assert (again.now_ms(), again.is_trusted) == (made.clock.ms - 423_000, False)


async def test_a_clock_set_while_the_node_is_down_changes_nothing_until_the_machine_starts_anew(made: Rig) -> None:
    """Found by the simulation: a machine's clock set forward between two runs ended a stored stand-down too early."""
    kept: list[KeptTime] = []

    async def keep(time: KeptTime) -> None:
        kept.append(KeptTime.decoded(time.encoded()))

    clock = ExchangeClock(made.clock)
    async with running(lambda: clock.run(made.exchange, random.Random(1), keep)):
        await made.advance(1)
    told_ms = clock.now_ms()
    made.clock.put(5 * HOUR_MS)
    again = ExchangeClock(made.clock)
    assert again.now_ms() == told_ms + 5 * HOUR_MS
    again.assume(kept[-1])
    assert (again.now_ms(), again.is_trusted) == (told_ms, False)


@pytest.mark.parametrize(
    ("late_ms", "is_trusted"), [(0, True), (2_500, True), (5_000, False), (-400, True), (-900, False)]
)
async def test_a_frame_confirms_the_time_when_it_states_about_the_same(
    made: Rig, late_ms: int, *, is_trusted: bool
) -> None:
    clock = ExchangeClock(made.clock)
    clock.heard(NOW_MS - late_ms)
    assert (clock.is_trusted, clock.offset_ms) == (is_trusted, 0)


async def test_a_frame_from_ahead_of_our_time_makes_the_node_ask(made: Rig) -> None:
    clock = ExchangeClock(made.clock)
    async with running(lambda: clock.run(made.exchange, random.Random(1), nobody_keeps)):
        await made.advance(2 * RETRY_S)
        made.exchange.time_offset_ms = 120_000
        clock.heard(made.clock.ms + 120_000)
        assert clock.offset_ms == 0, "one frame does not set the time"
        await made.advance(0.1)
        assert clock.offset_ms == 120_000
        made.exchange.time_offset_ms = 240_000
        clock.heard(made.clock.ms + 240_000)
        await made.advance(0.5 * RETRY_S)
        assert clock.offset_ms == 120_000, "frames cannot make it ask all the time"
        await made.advance(RETRY_S)
        assert clock.offset_ms == 240_000
