"""Tasks that end in any way are reported and restarted, and stop on request."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from app.events import Event, TaskEnded
from app.node.supervisor import HEALTHY_AFTER_MS, RESTART_DELAY_S_MAX, RESTART_DELAY_S_MIN, Supervisor
from tests.fakes import ManualClock, turn
from tests.patience import PATIENCE_S


class Run:
    """A supervisor on a manual clock, and the events it reported."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.supervisor = Supervisor(self.clock, self.events.append, random.Random(3))

    @property
    def ended(self) -> list[TaskEnded]:
        return [event for event in self.events if isinstance(event, TaskEnded)]

    async def advance(self, delay_s: float) -> None:
        await self.clock.advance(delay_s, lambda: turn(10))


async def forever() -> None:
    await asyncio.Event().wait()


def failing(
    times: int, error: Exception | None = None, starts: list[int] | None = None
) -> Callable[[], Awaitable[None]]:
    left = [times]

    async def main() -> None:
        if starts is not None:
            starts.append(1)
        if left[0]:
            left[0] -= 1
            if error is not None:
                raise error
            return
        await forever()

    return main


async def test_a_crash_and_a_clean_end_are_reported_and_followed_by_a_restart() -> None:
    run = Run()
    async with run.supervisor as supervisor:
        supervisor.start("crash", failing(1, ValueError("broken")))
        supervisor.start("end", failing(1))
        await turn(10)
        assert {(event.name, event.reason) for event in run.ended} == {
            ("crash", "ValueError: broken"), ("end", "ended although it should run for ever")
        }  # fmt: skip
        assert [state.is_running for state in supervisor.states.values()] == [False, False]
        assert supervisor.states["end"].last_error == "ended although it should run for ever"
        await run.advance(RESTART_DELAY_S_MAX)
        assert [state.is_running for state in supervisor.states.values()] == [True, True]
        assert [state.restarts for state in supervisor.states.values()] == [1, 1]


async def test_restarts_are_delayed_with_jitter_within_bounds() -> None:
    run = Run()
    async with run.supervisor as supervisor:
        supervisor.start("crash", failing(40, ValueError("broken")))
        for _ in range(40):
            await run.advance(RESTART_DELAY_S_MAX)
        delays = [event.delay_s for event in run.ended]
        assert len(delays) == 40
        assert all(RESTART_DELAY_S_MIN <= delay <= RESTART_DELAY_S_MAX for delay in delays)
        assert max(delays[10:]) > 20
        assert len({round(delay, 3) for delay in delays[10:]}) > 20, "full jitter"


async def test_a_task_that_ran_well_for_long_restarts_soon() -> None:
    run = Run()

    async def main() -> None:
        await run.clock.sleep(HEALTHY_AFTER_MS / 1000)
        raise ValueError("broken")

    async with run.supervisor as supervisor:
        supervisor.start("crash", main)
        for _ in range(10):
            await run.advance(HEALTHY_AFTER_MS / 1000 + 2)
        assert len(run.ended) > 5
        assert all(event.delay_s <= 2 * RESTART_DELAY_S_MIN for event in run.ended)


async def test_the_failure_of_one_task_does_not_end_another() -> None:
    run = Run()
    started: list[int] = []
    async with run.supervisor as supervisor:
        supervisor.start("steady", failing(0, starts=started))
        supervisor.start("crash", failing(30, ValueError("broken")))
        for _ in range(30):
            await run.advance(RESTART_DELAY_S_MAX)
        assert (len(started), supervisor.states["steady"].restarts) == (1, 0)


async def test_a_cancellation_that_nobody_asked_for_is_a_crash() -> None:
    """A task that awaits something cancelled must not disappear while health reports it as running."""
    run = Run()
    starts: list[int] = []

    async def main() -> None:
        starts.append(1)
        if len(starts) > 1:
            await forever()
        waited = asyncio.get_running_loop().create_future()
        waited.cancel()
        await waited

    async with run.supervisor as supervisor:
        supervisor.start("waits", main)
        await turn(10)
        assert [event.name for event in run.ended] == ["waits"]
        assert not supervisor.states["waits"].is_running
        await run.advance(RESTART_DELAY_S_MAX)
        assert (len(starts), supervisor.states["waits"].is_running) == (2, True)


async def test_stop_waits_until_the_task_has_tidied_up() -> None:
    run = Run()
    tidied: list[str] = []

    async def main() -> None:
        try:
            await forever()
        finally:
            await turn(5)
            tidied.append("done")

    async with run.supervisor as supervisor:
        supervisor.start("tidy", main)
        supervisor.start("other", forever)
        await turn(3)
        await supervisor.stop("tidy", "unknown")
        assert tidied == ["done"]
        assert list(supervisor.states) == ["other"]
        supervisor.start("tidy", forever)
        await turn(3)
    assert run.ended == [], "a stop is no failure"


async def test_a_task_that_swallows_its_cancellation_is_not_started_again() -> None:
    run = Run()
    starts: list[int] = []

    async def main() -> None:
        starts.append(1)
        try:
            await forever()
        except asyncio.CancelledError:
            return

    async with run.supervisor as supervisor:
        supervisor.start("deaf", main)
        await turn(3)
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.stop("deaf")
    assert starts == [1]


async def test_stop_ends_a_task_that_waits_for_its_restart() -> None:
    run = Run()
    async with run.supervisor as supervisor:
        supervisor.start("crash", failing(99, ValueError("broken")))
        await turn(5)
        async with asyncio.timeout(PATIENCE_S):
            await supervisor.stop("crash")
        assert supervisor.states == {}
