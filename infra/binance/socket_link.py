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
from app.wire.stream_event import ControlAnswer, KlineEvent, decode, kline_stream, subscribe, unsubscribe
from infra.binance.http import USER_AGENT, is_loopback
from infra.binance.socket_intake import Intake
from infra.binance.socket_pulse import Key, Pulse
from infra.binance.waiting import until

ROUTE: Final = "/market/stream"  # elsewhere kline streams are acknowledged and silent (binance-facts section 5.1)
NAMES_MAX: Final = 200  # in one control message; seen to work
CONTROL_GAP_S: Final = 0.25  # the exchange allows 10 messages a second, pings and pongs included
ACK_S_MAX: Final = 10.0
OPEN_S_MAX: Final = 10.0
CLOSE_S_MAX: Final = 2.0  # shutdown does not wait longer for the exchange's goodbye
PING_S: Final = 20.0
PONG_S_MAX: Final = 20.0
FRAME_BYTES_MAX: Final = 64 * 1024  # a kline frame has 350 bytes
FRAMES_BUFFERED_MAX: Final = 256  # in the library, before it stops reading from the network
CHECK_S: Final = 5.0  # between two looks at the pulse


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
            async with self._connect() as connection, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._control(connection))
                tasks.create_task(self._watch())
                await self._receive(connection)
        except* (LinkLost, WebSocketException, OSError, EOFError) as group:
            reason = _first_reason(group)
        finally:
            self.ended.set()
            self.pulse.first_frame.set()  # nobody waits for a dead socket
            self.pulse.all_heard.set()
        raise LinkLost(reason)

    def _connect(self) -> connect:
        return connect(
            self._url,
            proxy=self._proxy,
            compression=None,
            user_agent_header=USER_AGENT,
            open_timeout=OPEN_S_MAX,
            close_timeout=CLOSE_S_MAX,
            ping_interval=PING_S,
            ping_timeout=PONG_S_MAX,
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
                    self.pulse.beat(key, self._clock.now_ms())
                    await self._intake.put(message)
                    self.pulse.first_frame.set()
            elif message is not None:
                self._settle(message)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(CHECK_S)
            self._again.update(self.pulse.turn(self._clock.now_ms()))
            if illness := self.pulse.illness(self._clock.now_ms()):
                raise LinkLost(illness)
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
            await self._leave(connection, [key for key in subscribed if key not in wanted or key in again])
            await self._join(connection, [key for key in wanted if key not in subscribed])
            if not is_told:
                self._observe(SocketOpened(self.name, len(subscribed)))
                is_told = True
            if not self._changed.is_set():
                self.pulse.complete()
            await self._changed.wait()

    async def _leave(self, connection: ClientConnection, keys: Collection[Key]) -> None:
        for batch in _batches(keys):
            await self._ask(connection, unsubscribe, batch)
            self.pulse.forget(batch)

    async def _join(self, connection: ClientConnection, keys: Collection[Key]) -> None:
        for batch in _batches(keys):
            self.pulse.expect(batch, self._clock.now_ms())
            await self._ask(connection, subscribe, batch)

    async def _ask(self, connection: ClientConnection, form: Callable[[list[str], int], str], keys: list[Key]) -> None:
        """Send one control message and wait for its acknowledgement. Raises LinkLost."""
        request_id = next(self._ids)
        answered = self._answers[request_id] = asyncio.Event()
        await connection.send(form([_stream(key) for key in keys], request_id))
        if not await until(answered, self._clock, ACK_S_MAX):
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
