"""The simulation's event loop: virtual time, killed and frozen processes."""

import asyncio
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest

from tests.programs.sim.loop import PROCESS, Deadlocked, Fate, SimLoop

# killed processes leave their streams open, which warn when they are garbage-collected
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEPT: list[object] = []
"""Objects of killed processes, kept alive: collected, they would run their `finally` blocks during some other test."""


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = SimLoop()
    yield made
    KEPT.extend((made, *asyncio.all_tasks(made)))


async def pause(delay_s: float) -> None:
    await asyncio.sleep(delay_s)  # noqa: TID251  what the loop is tested with


def spawn(loop: SimLoop, fate: Fate, coro: Any) -> asyncio.Task[Any]:
    context = Context()
    context.run(PROCESS.set, fate)
    return loop.create_task(coro, context=context)


def test_a_day_passes_at_once(loop: SimLoop) -> None:
    loop.run_until_complete(pause(86_400))
    assert 86_400 <= loop.time() < 86_401


def test_timers_of_one_moment_run_in_the_order_they_were_set(loop: SimLoop) -> None:
    ran: list[int] = []
    for number in range(50):
        loop.call_at(5.0, ran.append, number)
    loop.run_until_complete(pause(10))
    assert ran == list(range(50))


def test_who_waits_for_nothing_is_named(loop: SimLoop) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlocked, match="hang"):
        loop.run_until_complete(hang())


def test_a_busy_loop_does_not_stop_the_time(loop: SimLoop) -> None:
    async def spin() -> None:
        while loop.time() < 0.01:
            await pause(0)

    loop.run_until_complete(spin())


def test_a_killed_process_runs_not_one_step_more_and_none_of_its_finally_blocks(loop: SimLoop) -> None:
    ran: list[str] = []
    fate = Fate("victim", lambda: ran.append("killed"))

    async def child() -> None:
        try:
            while True:
                await pause(1)
                ran.append("child")
        finally:
            ran.append("finally")

    async def victim() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())

    task = spawn(loop, fate, victim())
    loop.run_until_complete(pause(2.5))
    fate.kill()
    loop.run_until_complete(pause(10))
    assert ran == ["child", "child", "killed"]
    assert len(loop.tasks_of(fate)) == 2
    assert not task.done()


def test_a_kill_can_hit_every_step(loop: SimLoop) -> None:
    reached = []
    for step in range(1, 9):
        fate = Fate("victim", lambda: None)
        fate.kill_at_step = step
        awaits: list[int] = []

        async def victim(awaits: list[int] = awaits) -> None:
            for number in range(10):
                awaits.append(number)
                await pause(0)

        KEPT.extend((fate, spawn(loop, fate, victim())))
        loop.run_until_complete(pause(1))
        reached.append(len(awaits))
    assert reached == list(range(8))


def test_what_a_frozen_process_missed_runs_when_it_thaws(loop: SimLoop) -> None:
    fate = Fate("sleeper", lambda: None)
    ran: list[float] = []

    async def tick() -> None:
        for _ in range(3):
            await pause(1)
            ran.append(loop.time())

    spawn(loop, fate, tick())
    loop.call_at(1.5, loop.freeze, fate, 30.0)
    loop.run_until_complete(pause(60))
    assert [round(at_s, 2) for at_s in ran] == [1.0, 31.5, 32.5]


def test_work_for_a_thread_is_done_at_once_and_known_later(loop: SimLoop) -> None:
    loop.work_delay_s = lambda: 3.0

    async def work() -> tuple[float, int]:
        result = await asyncio.to_thread(lambda: 7)
        return loop.time(), result

    at_s, result = loop.run_until_complete(work())
    assert (round(at_s, 2), result) == (3.0, 7)
