"""The supervisor: starts every long-lived task, restarts it with backoff when it ends, and tracks its state."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from app.domain.backoff import spread_s
from app.events import Observe, TaskEnded
from app.ports.clock import Clock

RESTART_DELAY_S_MIN: Final = 0.5
RESTART_DELAY_S_MAX: Final = 60.0
HEALTHY_AFTER_MS: Final = 5 * 60_000  # a task that ran this long starts again at the shortest delay

Main = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class TaskState:
    """The state of one supervised task."""

    name: str
    restarts: int = 0
    failures_in_a_row: int = 0
    last_error: str | None = None
    is_running: bool = False
    started_ms: int = 0


@dataclass(slots=True)
class Supervisor:
    """Runs named mains for ever: an end, clean or not, is reported and followed by a restart with full jitter."""

    clock: Clock
    observe: Observe
    rng: random.Random
    states: dict[str, TaskState] = field(default_factory=dict)
    _group: asyncio.TaskGroup | None = None
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def __aenter__(self) -> "Supervisor":
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._group is not None, "leave after enter"
        await self.stop(*self._tasks)
        await self._group.__aexit__(None, None, None)
        self._group = None

    def start(self, name: str, main: Main) -> None:
        """Run `main` as the task `name` until `stop`; the name must not be in use."""
        assert self._group is not None, "start tasks inside `async with supervisor`"
        assert name not in self._tasks, f"task {name} runs already"
        self.states[name] = TaskState(name)
        self._tasks[name] = self._group.create_task(self._keep(self.states[name], main), name=name)

    async def stop(self, *names: str) -> None:
        """Cancel tasks and wait until they have ended; unknown names are ignored."""
        tasks = [task for name in names if (task := self._tasks.pop(name, None))]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for name in names:
            self.states.pop(name, None)

    async def _keep(self, state: TaskState, main: Main) -> None:
        while True:
            state.is_running, state.started_ms = True, self.clock.now_ms()
            crash: Exception | None = None
            try:
                await main()
                reason = "ended although it should run for ever"
            except asyncio.CancelledError:
                if _is_stopping():
                    raise
                reason = "cancelled from within"  # `main` awaited something that was cancelled; `stop` was not called
            except Exception as error:  # noqa: BLE001  whatever it was, it is reported and the task starts again
                reason = f"{type(error).__name__}: {error}"
                crash = error
            state.is_running = False
            if _is_stopping():
                return  # `main` swallowed the cancellation
            state.last_error = reason
            if self.clock.now_ms() - state.started_ms >= HEALTHY_AFTER_MS:
                state.failures_in_a_row = 0
            state.failures_in_a_row += 1
            state.restarts += 1
            delay_s = spread_s(self.rng, state.failures_in_a_row, RESTART_DELAY_S_MIN, RESTART_DELAY_S_MAX)
            self.observe(TaskEnded(state.name, reason, delay_s, state.restarts, crash))
            await self.clock.sleep(delay_s)


def _is_stopping() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
