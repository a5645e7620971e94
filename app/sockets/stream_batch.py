"""When frames are written to clients: a single frame at once, a burst of frames in batches."""

import asyncio
import math
from typing import Final, Protocol

GAP_S: Final = 0.005
"""Seconds between two flushes during a burst of frames. The system call is most of a frame's cost, and a burst of the
exchange (250 ms of all symbols) takes some ten milliseconds to arrive. A single frame does not wait."""


class Batched(Protocol):
    """A client with frames to write."""

    def flush(self) -> None:
        """Write the client's waiting frames in one call."""
        ...


class Batches:
    """The clients with frames to write, and the timer that flushes them."""

    def __init__(self) -> None:
        self._clients: list[Batched] = []
        self._is_due = False
        self._flushed_s = -math.inf

    def add(self, client: Batched) -> None:
        """Schedule `client`, which has its first frame since the last flush, for the next one."""
        self._clients.append(client)
        if not self._is_due:
            self._is_due = True
            self._schedule()

    def flush(self) -> None:
        """Flush every scheduled client."""
        self._is_due = False
        clients, self._clients = self._clients, []
        for client in clients:
            client.flush()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = self._flushed_s + GAP_S
        if due_s <= loop.time():
            loop.call_soon(self._flush_now)
        else:
            loop.call_at(due_s, self._flush_now)

    def _flush_now(self) -> None:
        self._flushed_s = asyncio.get_running_loop().time()
        self.flush()
