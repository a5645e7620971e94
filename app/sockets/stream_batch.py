"""When what clients are to be sent is written: at once when little happens, together when much does."""

import asyncio
import math
from typing import Final, Protocol

GAP_S: Final = 0.005
"""Between two writes to a connection while frames come in bursts. Most of what a frame costs is the system call, and a
burst of the exchange (250 ms of all symbols) takes some ten milliseconds to arrive; a single frame does not wait."""


class Batched(Protocol):
    """A client with frames to be written."""

    def flush(self) -> None:
        """Write them."""
        ...


class Batches:
    """The clients with frames to be written, and the moment when that is done."""

    def __init__(self) -> None:
        self._clients: list[Batched] = []
        self._is_due = False
        self._flushed_s = -math.inf

    def add(self, client: Batched) -> None:
        """`client` has its first frame since the last flush."""
        self._clients.append(client)
        if not self._is_due:
            self._is_due = True
            self._schedule()

    def flush(self) -> None:
        """Write everything."""
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
