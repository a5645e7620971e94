"""Awaiting something of the real world from inside the simulation, whose time stands still meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Outside:
    """An event loop on real time. It runs only while somebody waits for it, in the same thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run `coro` to its end, and return its result."""
        simulated = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(coro)
        finally:
            asyncio._set_running_loop(simulated)

    def close(self) -> None:
        """Close the loop."""
        self._loop.close()
