"""Clocks that a test controls."""

import asyncio
import heapq
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")
START_MS = 1_790_000_040_000  # the start of a minute
_TURNS = 12  # rounds of the event loop: enough for every chain of wake-ups between two moments


class VirtualClock:
    """A clock that jumps to the next sleeper's time when no task can go on."""

    def __init__(self, now_ms: int = START_MS, *, turns: int = _TURNS) -> None:
        self.time_ms = now_ms
        self._turns = turns
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []
        self._order = count()

    def now_ms(self) -> int:
        return self.time_ms

    async def sleep(self, delay_s: float) -> None:
        awake = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time_ms + max(0, round(delay_s * 1_000)), next(self._order), awake))
        await awake.wait()

    async def advance(self, delta_ms: int) -> None:
        """Let `delta_ms` pass, waking every sleeper in order."""
        end_ms = self.time_ms + delta_ms
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end_ms:
            await self._jump()
        self.time_ms = end_ms
        await self._settle()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` in a new event loop and return its result."""

        async def drive() -> T:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(main)
                await self._settle()
                while not task.done():
                    assert self._sleepers, "everybody waits and nobody sleeps"
                    await self._jump()
                return task.result()

        return asyncio.run(drive())

    async def _jump(self) -> None:
        due_ms, _, awake = heapq.heappop(self._sleepers)
        self.time_ms = max(self.time_ms, due_ms)
        awake.set()
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)  # noqa: TID251  lets other tasks run; no time passes


class HastyClock:
    """A clock that returns from each sleep at once, with the time moved on; `slept_s` lists the sleeps."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.time_ms = now_ms
        self.slept_s: list[float] = []

    def now_ms(self) -> int:
        return self.time_ms

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.time_ms += round(delay_s * 1_000)
        await asyncio.sleep(0)  # noqa: TID251  lets other tasks run
