"""The runtime of one exchange's session: it executes the session's effects and reports to it what happens."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, assert_never

from app.collecting.effects import Close, Effect, Emit, Fetch, Open, Send
from app.collecting.session import Session
from app.collector_events import VenueSocketLost
from app.domain.instrument import Instrument
from app.domain.records import Feed, Record
from app.ports.venue_io import VenueIo, VenueLost, VenueSocket
from app.runtime import Runtime

TICK_MS_MAX: Final = 100  # also bounds how late a timer of the session is
SENDS_WAITING_MAX: Final = 1_000  # of one socket; a session sends a few dozen subscriptions a second at most

Publish = Callable[[Sequence[Record]], None]
"""Takes records that are to be published; it never waits."""


class _Wire:
    """One socket of the session: what waits to be sent, and whether its frames are still wanted."""

    def __init__(self) -> None:
        self.sends: asyncio.Queue[str] = asyncio.Queue(SENDS_WAITING_MAX)
        self.socket: VenueSocket | None = None
        self.is_wanted = True
        self.closing = asyncio.Event()

    def send(self, text: str) -> None:
        """Queue a frame; a socket that takes none is closed."""
        try:
            self.sends.put_nowait(text)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the socket; its frames are not wanted from now on."""
        self.is_wanted = False
        self.closing.set()


class VenueRunner:
    """Keeps one exchange's session going. All calls of the session happen in one event loop."""

    def __init__(self, session: Session, io: VenueIo, publish: Publish, runtime: Runtime) -> None:
        self._session = session
        self._io = io
        self._publish = publish
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._wires: dict[int, _Wire] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._feeds: frozenset[Feed] = frozenset()

    def follow(self, feeds: frozenset[Feed]) -> None:
        """Follow exactly these feeds from now on; before `run` they are noted."""
        self._feeds = feeds
        if self._tasks is not None:
            self._execute(self._session.follow(feeds, self._clock.now_ms()))

    def begin_again(self, feeds: frozenset[Feed]) -> None:
        """Begin these feeds again at what the ledger holds: records of them were refused."""
        if self._tasks is not None:
            self._execute(self._session.begin_again(feeds, self._clock.now_ms()))

    def snapshot(self, instrument: Instrument) -> None:
        """Publish the whole book of an instrument again, if it is held."""
        self._execute(self._session.snapshot(instrument, self._clock.now_ms()))

    async def run(self) -> None:
        """Run until cancelled. A second run goes on with the same session after all its sockets were closed."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._execute(self._session.follow(self._feeds, self._clock.now_ms()))
                while True:
                    now_ms = self._clock.now_ms()
                    self._execute(self._session.tick(now_ms))
                    await self._clock.sleep(min(TICK_MS_MAX, max(1, self._session.wake_ms() - now_ms)) / 1_000)
        finally:
            self._tasks = None
            for number in list(self._wires):
                del self._wires[number]
                self._session.closed(number, "the collector stopped", self._clock.now_ms())

    def _execute(self, effects: Sequence[Effect]) -> None:
        records: list[Record] = []
        for effect in effects:
            match effect:
                case Emit(record):
                    records.append(record)
                case Send(number, text):
                    if wire := self._wires.get(number):
                        wire.send(text)
                case Open(number, route):
                    wire = self._wires[number] = _Wire()
                    self._start(self._keep_socket(number, route, wire))
                case Close(number):
                    if wire := self._wires.get(number):
                        wire.close()
                case Fetch():
                    self._start(self._fetch(effect))
                case _:
                    assert_never(effect)
        if records:
            self._publish(records)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None, "effects are executed while `run` runs"
        self._tasks.create_task(work)

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            answer = await self._io.get(fetch.request)
        except VenueLost as error:
            self._execute(self._session.failed(fetch.fetch, str(error), self._clock.now_ms()))
            return
        now_ms = self._clock.now_ms()
        self._execute(self._session.answered(fetch.fetch, answer.status, answer.headers, answer.body, now_ms))

    async def _keep_socket(self, number: int, route: str, wire: _Wire) -> None:
        reason = "closed by us"
        try:
            wire.socket = await self._io.connect(route)
            if wire.is_wanted:
                self._execute(self._session.opened(number, self._clock.now_ms()))
                reason = await self._serve(number, wire, wire.socket)
        except VenueLost as error:
            reason = str(error)
        finally:
            if wire.socket is not None:
                await wire.socket.close()
        if self._wires.pop(number, None):
            if wire.is_wanted:
                self._observe(VenueSocketLost(self._session.exchange, route, reason))
            self._execute(self._session.closed(number, reason, self._clock.now_ms()))

    async def _serve(self, number: int, wire: _Wire, socket: VenueSocket) -> str:
        """Send and receive until the socket ends or is to be closed; returns why."""
        ended: list[str] = []

        async def send() -> None:
            while True:
                text = await wire.sends.get()
                await socket.send(text)

        async def receive() -> None:
            while True:
                frames = await socket.receive()
                now_ms = self._clock.now_ms()
                for frame in frames:
                    if wire.is_wanted:
                        self._execute(self._session.received(number, frame, now_ms))

        async def until_lost(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            try:
                await work()
            except VenueLost as error:
                ended.append(str(error))

        async with asyncio.TaskGroup() as tasks:
            racers = [
                tasks.create_task(until_lost(send)),
                tasks.create_task(until_lost(receive)),
                tasks.create_task(_wait(wire.closing)),
            ]
            await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
            for racer in racers:
                racer.cancel()
        return ended[0] if ended else "closed by us"


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
