"""One connection with kline streams, whose frames become kline events."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from app.binance.stream_event import (
    KlineEvent,
    KlineHead,
    ServerShutdown,
    StreamFrame,
    decode,
    kline_stream,
    undecoded,
)
from app.domain.interval import INTERVALS
from app.domain.kline import BadKline
from app.outbound import Destination
from app.runtime import Runtime
from infra.binance.socket_intake import Intake
from infra.binance.socket_link import Link
from infra.binance.socket_order import urgent_first
from infra.binance.socket_pulse import Key, Pulse
from infra.net.websocket_messages import MessageConnection

ROUTE: Final = "/market/stream"  # elsewhere kline streams are acknowledged and silent (binance-facts section 5.1)


class Tap(NamedTuple):
    """The streams whose undecoded frames are also passed to `take`, and their names as in frames."""

    heads: Mapping[Key, KlineHead]
    names: Collection[bytes]
    take: Callable[["KlineLink", Key, StreamFrame], None]


class KlineLink(Link[Key]):
    """Puts kline events into the intake, and stops reading while the intake is full."""

    frame_bytes_max = 64 * 1024  # a kline frame has 350 bytes

    def __init__(self, name: str, at: Destination, runtime: Runtime, intake: Intake, tap: Tap) -> None:
        self._life = Pulse()
        super().__init__(name, Destination(f"{at.url.rstrip('/')}{ROUTE}", at.egress), runtime, self._life)
        self._intake = intake
        self._tap = tap

    def _stream(self, key: Key) -> str:
        symbol, code = key
        return kline_stream(symbol, INTERVALS[code])

    def _drop(self, reason: str) -> None:
        self._intake.drop(f"socket {self.name}", reason)

    async def _receive(self, connection: MessageConnection) -> None:
        while True:
            frames, superseded = urgent_first(await connection.messages(), self._tap.names)
            self._intake.leave_out(superseded)
            now_ms, is_first = self._clock.now_ms(), True
            for frame in frames:
                event = self._take(frame, now_ms)
                if event is None:
                    continue
                if self._intake.is_full:
                    await self._wait_to_put(event)
                    now_ms = self._clock.now_ms()
                else:
                    self._intake.put_nowait(event)
                if is_first:
                    self._life.first_frame.set()
                    is_first = False

    def _take(self, frame: bytes, now_ms: int) -> KlineEvent | None:
        """The event of a frame received at `now_ms`; None if it is to be left out, or the frame has none."""
        try:
            message = decode(frame)
        except BadKline as error:
            self._drop(str(error))
            return None
        if isinstance(message, KlineEvent):
            key = (message.symbol, message.interval.code)
            if key not in self._wanted:
                return None  # it was unsubscribed while the frame was in flight
            self._life.beat(key, now_ms, message.event_ms)
            if (heads := self._tap.heads) and (head := heads.get(key)) is not None:
                self._pass_on(key, frame, head)
            return message
        if isinstance(message, ServerShutdown):
            self._leave_soon()
        elif message is not None:
            self._settle(message)
        return None

    def _pass_on(self, key: Key, frame: bytes, head: KlineHead) -> None:
        if (event := undecoded(frame, head)) is not None:
            self._tap.take(self, key, event)
        else:
            self._drop("a kline event without its stream's name, or not UTF-8: ingested, and not sent to clients")

    async def _wait_to_put(self, event: KlineEvent) -> None:
        self._life.hold()
        try:
            await self._intake.put(event)
        finally:
            self._life.release()
