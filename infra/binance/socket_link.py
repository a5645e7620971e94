"""One connection to Binance's sockets, from its handshake to its end, whatever its frames are."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import count, islice
from typing import Final, Generic, Protocol, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from app.binance.stream_event import ControlAnswer, subscribe, unsubscribe
from app.events import SocketOpened
from app.outbound import Destination
from app.runtime import Runtime
from infra.binance.http import USER_AGENT
from infra.binance.socket_connect import Connect
from infra.binance.waiting import until

CHECK_S: Final = 5.0  # between two looks at the life signs
NAMES_MAX: Final = 200  # in one control message; seen to work
CONTROL_GAP_S: Final = 0.25  # the exchange allows 10 messages a second, pings and pongs included
ACK_S_MAX: Final = 10.0
OPEN_S_MAX: Final = 20.0  # TCP, TLS and handshake; a half-open peer accepts and never answers
CLOSE_S_MAX: Final = 2.0  # shutdown does not wait longer for the exchange's goodbye
FRAMES_BUFFERED_MAX: Final = 256  # in the library, before it stops reading from the network

K = TypeVar("K", bound=Hashable)
"""What a frame says about itself, cheap to hash: the key of its stream."""


class LinkLost(Exception):
    """The connection is of no more use; the message says why."""


class LifeSigns(Protocol[K]):
    """What the frames of one connection, and their absence, say of it."""

    first_frame: asyncio.Event
    all_heard: asyncio.Event
    """Set once every wanted stream has delivered."""
    newest_ms: int | None
    """When the newest frame came."""
    holds: int
    """How often a frame had to wait for our own consumer."""
    is_held: bool

    @property
    def subscribed(self) -> Collection[K]:
        """The streams of the connection."""
        ...

    @property
    def silent(self) -> int:
        """How many of them have fallen silent."""
        ...

    def expect(self, keys: Iterable[K], now_ms: int) -> None:
        """These streams are being subscribed: the first frame may come before the acknowledgement."""
        ...

    def forget(self, keys: Iterable[K], *, for_good: bool = True) -> None:
        """These streams are no longer subscribed, or will be again."""
        ...

    def complete(self) -> None:
        """Everything that is wanted has been subscribed."""
        ...

    def check(self, now_ms: int) -> Sequence[K]:
        """To be called every CHECK_S: counts the time; returns streams found silent, to be subscribed again."""
        ...

    def illness(self) -> str | None:
        """Why the connection is of no more use, if it is of none."""
        ...

    def complaint(self) -> str | None:
        """Why another connection should take over from this one, which still delivers something."""
        ...

    def heard_ms(self, key: K) -> int | None:
        """The time of the newest frame that speaks for `key`; None when it is not subscribed, or silent."""
        ...

    def exists(self, key: K, closed_ms: int) -> None:
        """REST has a closed kline of `key` that ends at `closed_ms`."""
        ...


class Link(ABC, Generic[K]):
    """A connection and the streams subscribed on it. `run` lasts as long as the connection is good."""

    frame_bytes_max: int
    """The longest frame that is taken; one that is longer ends the connection."""

    def __init__(self, name: str, at: Destination, runtime: Runtime, pulse: LifeSigns[K]) -> None:
        self.name = name
        self.pulse = pulse
        self.ended = asyncio.Event()
        self.notice = asyncio.Event()
        """Set when there is a reason to look at this link: it has ended, will end, or is not well."""
        self.is_leaving = False
        """Whether the exchange announced the end of the connection."""
        self._url = at.url
        self._egress = at.egress
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._wanted: Collection[K] = ()
        self._again: set[K] = set()
        self._changed = asyncio.Event()
        self._ids = count(1)
        self._answers: dict[int, asyncio.Event] = {}

    @abstractmethod
    def _stream(self, key: K) -> str:
        """The stream's name, as control messages have it."""

    @abstractmethod
    async def _receive(self, connection: ClientConnection) -> None:
        """Take frames in, for ever."""

    @abstractmethod
    def _drop(self, reason: str) -> None:
        """Count a frame that cannot be used."""

    def want(self, wanted: Collection[K]) -> None:
        """Set the streams; `run` subscribes and unsubscribes what differs."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Connect, subscribe and take frames in until the connection ends. Raises LinkLost, always."""
        reason = ""
        try:
            connection = await self._open()
            try:
                async with connection:
                    await self._use(connection)
            finally:
                connection.transport.abort()  # its goodbye may have been interrupted
        except* (LinkLost, WebSocketException, OSError, EOFError) as group:
            reason = _first_reason(group)
        finally:
            self.ended.set()
            self.notice.set()
            self.pulse.first_frame.set()  # nobody waits for a dead socket
            self.pulse.all_heard.set()
        raise LinkLost(reason)

    async def _use(self, connection: ClientConnection) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control(connection))
                tasks.create_task(self._watch())
                await self._receive(connection)
        except BaseExceptionGroup:
            connection.transport.abort()  # a sick peer would let us wait for its goodbye
            raise

    async def _open(self) -> ClientConnection:
        """Connect, within OPEN_S_MAX of the clock. Raises LinkLost and what the library raises."""
        connection: ClientConnection | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                limit = tasks.create_task(self._give_up_opening())
                connection = await self._connect()
                limit.cancel()
        except BaseException:
            if connection is not None:  # both came at the same moment
                connection.transport.abort()
            raise
        return connection

    async def _give_up_opening(self) -> None:
        await self._clock.sleep(OPEN_S_MAX)
        raise LinkLost(f"no handshake within {OPEN_S_MAX:.0f} s")

    def _connect(self) -> Connect:
        """A connection without the library's own pings and time limits, which would run on the machine's time.

        A pong proves nothing that frames do not, and one that waits behind frames held back by our own queue would
        end a good connection.
        """
        return Connect(
            self._url,
            self._egress,
            self._clock,
            compression=None,
            user_agent_header=USER_AGENT,
            open_timeout=None,
            close_timeout=CLOSE_S_MAX,
            ping_interval=None,
            max_size=self.frame_bytes_max,
            max_queue=FRAMES_BUFFERED_MAX,
        )

    def _leave_soon(self) -> None:
        """The exchange announced the end of the connection."""
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

    async def _control(self, connection: ClientConnection) -> None:
        """Bring the subscriptions to what is wanted, again and again."""
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

    async def _leave(self, connection: ClientConnection, keys: Collection[K], *, for_good: bool) -> None:
        for batch in _batches(keys):
            await self._ask(connection, unsubscribe, batch)
            self.pulse.forget(batch, for_good=for_good)

    async def _join(self, connection: ClientConnection, keys: Collection[K]) -> None:
        for batch in _batches(keys):
            self.pulse.expect(batch, self._clock.now_ms())
            await self._ask(connection, subscribe, batch)

    async def _ask(self, connection: ClientConnection, form: Callable[[list[str], int], str], keys: list[K]) -> None:
        """Send one control message and wait for its acknowledgement. Raises LinkLost."""
        request_id = next(self._ids)
        answered = self._answers[request_id] = asyncio.Event()
        await connection.send(form([self._stream(key) for key in keys], request_id))
        while True:
            holds = self.pulse.holds
            if await until(answered, self._clock, ACK_S_MAX):
                break
            if not self.pulse.is_held and self.pulse.holds == holds:  # else it waits behind frames that we hold back
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
    return str(error) if isinstance(error, LinkLost) else f"{type(error).__name__}: {error}"
