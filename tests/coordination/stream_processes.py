"""Processes of a node, as far as streams go: the writer with its hub, and others that receive its frames."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from app.market.stream_hub import Hub
from app.ports.coordination import StreamFanoutClient
from infra.process.clock import SystemClock
from tests.coordination.stream_fanouts import StreamFanouts
from tests.patience import PATIENCE_S

A: Final = "ausdt@trade"
B: Final = "busdt@trade"
RETRY_S: Final = 0.01  # short, so that a test is


class Exchange:
    """A source of frames that records what is subscribed."""

    def __init__(self) -> None:
        self.subscribed: Counter[str] = Counter()
        self.changed = asyncio.Event()

    def add(self, streams: Iterable[str]) -> None:
        self.subscribed.update(list(streams))
        self.changed.set()

    def remove(self, streams: Iterable[str]) -> None:
        self.subscribed.subtract(list(streams))
        self.changed.set()

    def heard_ms(self, stream: str) -> int | None:
        return None

    async def until(self, *streams: str) -> None:
        """Wait until these streams and no others are subscribed, each once."""
        async with asyncio.timeout(PATIENCE_S):
            while +self.subscribed != Counter(streams):
                self.changed.clear()
                await self.changed.wait()


class Writer:
    """The process that writes. Its hub releases streams at once when `release` is called."""

    def __init__(self, fanouts: StreamFanouts, streams_max: int = 100) -> None:
        self.exchange = Exchange()
        self.hub = Hub(SystemClock(), linger_s=0, streams_max=streams_max)
        self.hub.take_from(self.exchange)
        self.server = fanouts.server()

    async def until_released(self, *left: str) -> None:
        """Wait until only the streams `left` have listeners."""
        async with asyncio.timeout(PATIENCE_S):
            while +self.exchange.subscribed != Counter(left):
                self.hub.release()
                await asyncio.sleep(0)  # noqa: TID251  lets the connections work


@asynccontextmanager
async def writing(fanouts: StreamFanouts, streams_max: int = 100) -> AsyncIterator[Writer]:
    """A writer whose server is open."""
    writer = Writer(fanouts, streams_max)
    await writer.server.open(writer.hub)
    try:
        yield writer
    finally:
        await writer.server.close()


class Process(SystemClock):
    """A process that does not write, what it received, and what it was told of gaps. It is the clock of its client."""

    def __init__(self, fanouts: StreamFanouts, *streams: str) -> None:
        self.client: StreamFanoutClient = fanouts.client(self, self._receive)
        self.client.add(streams)
        self.streams = streams
        self.received: list[tuple[str, bytes]] = []
        self.gaps: list[int] = []
        """How many frames had arrived whenever the client was without a connection."""
        self._news = asyncio.Event()

    async def sleep(self, delay_s: float) -> None:
        assert [self.client.heard_ms(stream) for stream in self.streams] == [None] * len(self.streams)
        self.gaps.append(len(self.received))
        self._news.set()
        await super().sleep(min(delay_s, RETRY_S))

    def payloads(self, stream: str) -> list[bytes]:
        return [payload for name, payload in self.received if name == stream]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def until_received(self, number: int) -> None:
        await self.until(lambda: len(self.received) >= number)

    async def until_gap(self) -> None:
        """Wait until the client loses its connection, or fails to make one."""
        told = len(self.gaps)
        await self.until(lambda: len(self.gaps) > told)

    def _receive(self, stream: str, payload: bytes) -> None:
        self.received.append((stream, payload))
        self._news.set()


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    """Run the client of a process."""
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(process.client.run())
        try:
            yield process
        finally:
            run.cancel()


def following(fanouts: StreamFanouts, *streams: str) -> AbstractAsyncContextManager[Process]:
    """A process that follows and wants `streams`."""
    return running(Process(fanouts, *streams))


async def joined(writer: Writer, *processes: Process) -> None:
    """Wait until frames of A reach these processes, then forget them."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(process.received for process in processes):
            writer.hub.deliver(A, b"joined?")
            await asyncio.sleep(0)  # noqa: TID251  lets the connections work
    writer.hub.deliver(A, b"joined")
    for process in processes:
        await process.until(lambda process=process: process.received[-1:] == [(A, b"joined")])  # type: ignore[misc]
        process.received.clear()


class _Stuck(Process):
    def __init__(self, fanouts: StreamFanouts, streams: Iterable[str], stand_still: Callable[[], object]) -> None:
        super().__init__(fanouts, *streams)
        self._stand_still = stand_still

    def _receive(self, stream: str, payload: bytes) -> None:
        super()._receive(stream, payload)
        self._stand_still()


class StuckProcess:
    """A process that stands still inside a listener, from its first frame to `go_on`. It is a thread with a loop."""

    def __init__(self, fanouts: StreamFanouts, *streams: str) -> None:
        self._fanouts = fanouts
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._is_started, self._may_go_on = threading.Event(), threading.Event()
        self._end: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        self._news = asyncio.Event()
        self.received: list[tuple[str, bytes]] = []
        self.gaps: list[int] = []

    def __enter__(self) -> "StuckProcess":
        self._thread.start()
        self._is_started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._end()
        self._thread.join()

    def go_on(self) -> None:
        """Let the listener return, now and for every further frame."""
        self._may_go_on.set()

    async def until_received(self, payload: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not any(payload == received for _, received in tuple(self.received)):
                self._news.clear()
                await self._news.wait()

    def _stand_still(self) -> None:
        self._loop.call_soon_threadsafe(self._news.set)
        self._may_go_on.wait()

    async def _live(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._end = lambda: loop.call_soon_threadsafe(ended.set)
        self._is_started.set()
        process = _Stuck(self._fanouts, self._streams, self._stand_still)
        self.received, self.gaps = process.received, process.gaps
        async with running(process):
            await ended.wait()
