"""One connection to Binance's sockets, from its handshake to its end, with frames of any kind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import count, islice
from typing import Final, Generic, Protocol, TypeVar

from app.binance.stream_event import ControlAnswer, subscribe, unsubscribe
from app.events import SocketOpened
from app.outbound import Destination
from app.runtime import Runtime
from infra.net.waiting import until
from infra.net.websocket import FAILURES, NoHandshake, open_websocket
from infra.net.websocket_messages import MessageConnection

CHECK_S: Final = 5.0  # between two checks of the life signs
NAMES_MAX: Final = 200  # stream names in one control message; known to work
CONTROL_GAP_S: Final = 0.25  # the exchange allows 10 messages a second, pongs included (binance-facts section 5.2)
ACK_S_MAX: Final = 10.0

K = TypeVar("K", bound=Hashable)
"""The key of a stream, cheap to hash: symbol and interval code, or the stream's name."""


class LinkLost(Exception):
    """The connection ended or is unusable; the message says why."""


class LifeSigns(Protocol[K]):
    """The state of a connection's streams, derived from the frames that arrive and those that do not."""

    first_frame: asyncio.Event
    all_heard: asyncio.Event
    """Set once every wanted stream has delivered a frame."""
    newest_ms: int | None
    """When the newest frame was received (ms)."""
    holds: int
    """How often a frame had to wait because the intake was full."""
    is_held: bool
    """Whether a frame waits at the moment."""

    @property
    def subscribed(self) -> Collection[K]:
        """The subscribed streams."""
        ...

    @property
    def silent(self) -> int:
        """How many subscribed streams are silent."""
        ...

    def expect(self, keys: Iterable[K], now_ms: int) -> None:
        """Note that `keys` are being subscribed. Called first, as a frame may precede the acknowledgement."""
        ...

    def forget(self, keys: Iterable[K], *, for_good: bool = True) -> None:
        """Note that `keys` are unsubscribed, either `for_good` or to be subscribed again."""
        ...

    def complete(self) -> None:
        """Note that all wanted streams are subscribed."""
        ...

    def check(self, now_ms: int) -> Sequence[K]:
        """Count the time since the last check, every CHECK_S; returns silent streams to be subscribed again."""
        ...

    def illness(self) -> str | None:
        """Why the connection must be closed; None if it is usable."""
        ...

    def complaint(self) -> str | None:
        """Why another connection should replace this one, which still delivers frames; None if all is well."""
        ...

    def heard_ms(self, key: K) -> int | None:
        """The time (ms) of the newest frame that shows `key` to be alive; None if not subscribed or silent."""
        ...

    def exists(self, key: K, closed_ms: int) -> None:
        """Note that REST has a closed kline of `key` that ends at `closed_ms`."""
        ...


class Link(ABC, Generic[K]):
    """A connection and its subscribed streams. `run` lasts until the connection ends."""

    frame_bytes_max: int
    """The longest frame that is accepted; a longer one ends the connection."""

    def __init__(self, name: str, at: Destination, runtime: Runtime, pulse: LifeSigns[K]) -> None:
        self.name = name
        self.pulse = pulse
        self.ended = asyncio.Event()
        self.notice = asyncio.Event()
        """Set when the shard should check this link: it has ended, will end, or has a complaint."""
        self.is_leaving = False
        """Whether the exchange has announced that it will close the connection."""
        self._at = at
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._wanted: Collection[K] = ()
        self._again: set[K] = set()
        self._changed = asyncio.Event()
        self._ids = count(1)
        self._answers: dict[int, asyncio.Event] = {}

    @abstractmethod
    def _stream(self, key: K) -> str:
        """The stream's name in control messages."""

    @abstractmethod
    async def _receive(self, connection: MessageConnection) -> None:
        """Receive and process frames, for ever."""

    @abstractmethod
    def _drop(self, reason: str) -> None:
        """Count an unusable frame."""

    def want(self, wanted: Collection[K]) -> None:
        """Set the streams; `run` subscribes and unsubscribes what differs."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Connect, subscribe and receive frames until the connection ends. Always raises LinkLost."""
        reason = ""
        try:
            connection = await open_websocket(self._at, self._clock, message_bytes_max=self.frame_bytes_max)
            try:
                async with connection:
                    await self._use(connection)
            finally:
                connection.transport.abort()  # closing may have been interrupted
        except* (LinkLost, *FAILURES) as group:
            reason = _first_reason(group)
        finally:
            self.ended.set()
            self.notice.set()
            self.pulse.first_frame.set()  # nobody must wait for a closed connection
            self.pulse.all_heard.set()
        raise LinkLost(reason)

    async def _use(self, connection: MessageConnection) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control(connection))
                tasks.create_task(self._watch())
                await self._receive(connection)
        except BaseExceptionGroup:
            connection.transport.abort()  # do not wait for the close frame of a broken peer
            raise

    def _leave_soon(self) -> None:
        """Note that the exchange will close the connection."""
        self.is_leaving = True
        self.notice.set()

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(CHECK_S)
            self._again.update(self.pulse.check(self._clock.now_ms()))
            if illness := self.pulse.illness():
                raise LinkLost(illness)
            if self.pulse.complaint():
                self.notice.set()
            if self._again:
                self._changed.set()

    # --- subscribing ---

    async def _control(self, connection: MessageConnection) -> None:
        """Subscribe and unsubscribe what differs from the wanted streams, at every change."""
        is_told = False
        while True:
            self._changed.clear()
            wanted, subscribed, again = self._wanted, self.pulse.subscribed, self._again
            self._again = set()
            await self._leave(connection, [key for key in subscribed if key not in wanted], for_good=True)
            await self._leave(connection, [key for key in subscribed if key in again], for_good=False)
            await self._join(connection, [key for key in wanted if key not in subscribed])
            if not is_told:
                self._observe(SocketOpened(self.name, len(subscribed)))
                is_told = True
            if not self._changed.is_set():
                self.pulse.complete()
            await self._changed.wait()

    async def _leave(self, connection: MessageConnection, keys: Collection[K], *, for_good: bool) -> None:
        for batch in _batches(keys):
            await self._ask(connection, unsubscribe, batch)
            self.pulse.forget(batch, for_good=for_good)

    async def _join(self, connection: MessageConnection, keys: Collection[K]) -> None:
        for batch in _batches(keys):
            self.pulse.expect(batch, self._clock.now_ms())
            await self._ask(connection, subscribe, batch)

    async def _ask(self, connection: MessageConnection, form: Callable[[list[str], int], str], keys: list[K]) -> None:
        """Send one control message and wait for its acknowledgement. Raises LinkLost after ACK_S_MAX."""
        request_id = next(self._ids)
        answered = self._answers[request_id] = asyncio.Event()
        await connection.send(form([self._stream(key) for key in keys], request_id))
        while True:
            holds = self.pulse.holds
            if await until(answered, self._clock, ACK_S_MAX):
                break
            if not self.pulse.is_held and self.pulse.holds == holds:  # else it waits behind held-back frames
                raise LinkLost(f"control message not acknowledged within {ACK_S_MAX:.0f} s")
        await self._clock.sleep(CONTROL_GAP_S)

    def _settle(self, answer: ControlAnswer) -> None:
        if answer.error is not None:
            raise LinkLost(f"control message refused: {answer.error:.200}")
        answered = self._answers.pop(answer.id, None) if isinstance(answer.id, int) else None
        if answered is None:
            self._drop("neither an event nor an answer to a control message")
        else:
            answered.set()


def _batches(keys: Iterable[K]) -> Iterable[list[K]]:
    rest = iter(keys)
    while batch := list(islice(rest, NAMES_MAX)):
        yield batch


def _first_reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, LinkLost | NoHandshake) else f"{type(error).__name__}: {error}"
