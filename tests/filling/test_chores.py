"""Work that would disturb a close is done in the middle of a minute, once in each."""

import asyncio

import pytest

from app.domain.interval import MINUTE_MS
from app.filling.chores import in_quiet_moments
from tests.fakes import NOW_MS, ManualClock, turn


@pytest.mark.parametrize("second", [0, 29, 30, 31, 59])
async def test_it_is_done_once_in_the_middle_of_each_minute(second: int) -> None:
    clock = ManualClock(NOW_MS // MINUTE_MS * MINUTE_MS + second * 1000)
    done: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(in_quiet_moments(clock, lambda: done.append(clock.now_ms())))
        await clock.advance(180, turn)
        task.cancel()
    assert [at_ms % MINUTE_MS for at_ms in done] == [30_000] * 3
    assert done == sorted(set(done))
