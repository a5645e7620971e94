"""One connection to Binance's market sockets, from its handshake to its end."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count, islice
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from app.domain.interval import INTERVALS
from app.domain.kline import BadKline
from app.events import Observe, SocketOpened
from app.ports import Clock, Series
from app.wire.stream_event import (
    ControlAnswer,
    KlineEvent,
    ServerShutdown,
    decode,
    kline_stream,
    subscribe,
    unsubscribe,
)
from infra.binance.http import USER_AGENT, is_loopback
from infra.binance.socket_intake import Intake
from infra.binance.socket_pulse import CHECK_S, Key, Pulse
from infra.binance.waiting import until

ROUTE: Final = "/market/stream"  # elsewhere kline streams are acknowledged and silent (binance-facts section 5.1)
NAMES_MAX: Final = 200  # in one control message; seen to work
CONTROL_GAP_S: Final = 0.25  # the exchange allows 10 messages a second, pings and pongs included
ACK_S_MAX: Final = 10.0
OPEN_S_MAX: Final = 20.0  # TCP, TLS and handshake; a half-open peer accepts and never answers
CLOSE_S_MAX: Final = 2.0  # shutdown does not wait longer for the exchange's goodbye
FRAME_BYTES_MAX: Final = 64 * 1024  # a kline frame has 350 bytes
FRAMES_BUFFERED_MAX: Final = 256  # in the library, before it stops reading from the network


class LinkLost(Exception):
    """The connection is of no more use; the message says why."""


class Link:
    """A connection and the streams subscribed on it. `run` lasts as long as the connection is good."""

    def __init__(
        self, name: str, ws_url: str, clock: Clock, observe: Observe, intake: Intake, *, proxy: str | None
    ) -> None:
        self.name = name
        self.pulse = Pulse()
        self.ended = asyncio.Event()
        self.notice = asyncio.Event()
        """Set when there is a reason to look at this link: it has ended, will end, or is not well."""
        self.is_leaving = False
        """Whether the exchange announced the end of the connection."""
        self._url = f"{ws_url.rstrip('/')}{ROUTE}"
        self._proxy = None if is_loopback(ws_url) else proxy
        self._clock = clock
        self._observe = observe
        self._intake = intake
        self._wanted: Mapping[Key, Series] = {}
        self._again: set[Key] = set()
        self._changed = asyncio.Event()
        self._ids = count(1)
        self._answers: dict[int, asyncio.Event] = {}

    def want(self, wanted: Mapping[Key, Series]) -> None:
        """Set the streams; `run` subscribes and unsubscribes what differs."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Connect, subscribe and take frames in until the connection ends. Raises LinkLost, always."""
        reason = ""
        try:
            async with await self._open() as connection:
                await self._use(connection)
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

    def _connect(self) -> connect:
        """A connection without the library's own pings and time limits, which would run on the machine's time.

        A pong proves nothing that frames do not, and one that waits behind frames held back by our own queue would
        end a good connection.
        """
        return connect(
            self._url,
            proxy=self._proxy,
            compression=None,
            user_agent_header=USER_AGENT,
            open_timeout=None,
            close_timeout=CLOSE_S_MAX,
            ping_interval=None,
            max_size=FRAME_BYTES_MAX,
            max_queue=FRAMES_BUFFERED_MAX,
        )

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            frame = await connection.recv(decode=False)
            try:
                message = decode(frame)
            except BadKline as error:
                self._intake.drop(f"socket {self.name}", str(error))
                continue
            if isinstance(message, KlineEvent):
                key = (message.symbol, message.interval.code)
                if key in self._wanted:  # else it was unsubscribed while the frame was under way
                    self.pulse.beat(key, self._clock.now_ms(), message.event_ms)
                    await self._put(message)
                    self.pulse.first_frame.set()
            elif isinstance(message, ServerShutdown):
                self.is_leaving = True
                self.notice.set()
            elif message is not None:
                self._settle(message)

    async def _put(self, event: KlineEvent) -> None:
        if not self._intake.is_full:
            self._intake.put_nowait(event)
            return
        self.pulse.hold()
        try:
            await self._intake.put(event)
        finally:
            self.pulse.release()

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

    async def _leave(self, connection: ClientConnection, keys: Collection[Key], *, for_good: bool) -> None:
        for batch in _batches(keys):
            await self._ask(connection, unsubscribe, batch)
            self.pulse.forget(batch, for_good=for_good)

    async def _join(self, connection: ClientConnection, keys: Collection[Key]) -> None:
        for batch in _batches(keys):
            self.pulse.expect(batch, self._clock.now_ms())
            await self._ask(connection, subscribe, batch)

    async def _ask(self, connection: ClientConnection, form: Callable[[list[str], int], str], keys: list[Key]) -> None:
        """Send one control message and wait for its acknowledgement. Raises LinkLost."""
        request_id = next(self._ids)
        answered = self._answers[request_id] = asyncio.Event()
        await connection.send(form([_stream(key) for key in keys], request_id))
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
            self._intake.drop(f"socket {self.name}", "neither an event nor an answer to a control message")
        else:
            answered.set()


def _stream(key: Key) -> str:
    symbol, code = key
    return kline_stream(symbol, INTERVALS[code])


def _batches(keys: Iterable[Key]) -> Iterable[list[Key]]:
    rest = iter(keys)
    while batch := list(islice(rest, NAMES_MAX)):
        yield batch


def _first_reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, LinkLost) else f"{type(error).__name__}: {error}"
