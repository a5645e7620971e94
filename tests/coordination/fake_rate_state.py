"""A rate state on a server far away: every step of an update takes turns of the event loop."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from typing import TypeVar

from app.binance.rate_state import RateState

T = TypeVar("T")


class FakeServer:
    """What the processes share."""

    def __init__(self) -> None:
        self.state = RateState()
        self.lock = asyncio.Lock()
        self.processes: set[int] = set()
        self._numbers = count()

    def number(self) -> int:
        """Return the number of a new process."""
        number = next(self._numbers)
        self.processes.add(number)
        return number


class FakeRateState:
    """The access of one process to a server. In each step of an update, `turns` turns of the event loop pass.

    An update runs in a task of its own. If the caller itself waited for the lock, others could wait for ever: a request
    that is left behind when the loop ends gets GeneratorExit, and `asyncio.Lock.acquire` then neither takes the lock
    that it was offered nor offers it to the next one.
    """

    trouble: str | None = None

    def __init__(self, server: FakeServer | None = None, *, turns: int = 0) -> None:
        self._server = server or FakeServer()
        self._turns = turns
        self._known = RateState() if turns else self._server.state
        self.me = self._server.number()

    async def update(self, change: Callable[[RateState], T]) -> T:
        if not self._turns:
            return change(self._server.state)
        running = asyncio.create_task(self._update(change))  # noqa: TID251  waited for below
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return running.result()

    def look(self, read: Callable[[RateState], T]) -> T:
        return read(self._known)

    def close(self) -> None:
        self._server.processes.discard(self.me)

    async def _update(self, change: Callable[[RateState], T]) -> T:
        async with self._server.lock:
            await self._pass()
            if self.me not in self._server.processes:
                self.me = self._server.number()
            state = deepcopy(self._server.state)
            for number in state.under_way.keys() - self._server.processes:
                del state.under_way[number]
            result = change(state)
            await self._pass()
            self._server.state, self._known = state, deepcopy(state)
        await self._pass()
        return result

    async def _pass(self) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)  # noqa: TID251  lets the others run; no time passes
