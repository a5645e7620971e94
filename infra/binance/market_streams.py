"""The hub's connection to Binance: market streams of any kind, each subscribed on its route."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from app.binance.stream_event import ServerShutdown, StreamFrame, decode_any
from app.binance.stream_name import Route, parse
from app.domain.interval import INTERVALS
from app.domain.kline import BadKline
from app.domain.series import Series
from app.events import GarbageDropped
from app.kinds.klines import KLINES
from app.outbound import Destination
from app.ports.streams import Listener
from app.runtime import Runtime
from infra.binance.socket_fleet import Fleet
from infra.binance.socket_link import Link
from infra.binance.socket_shard import LIFE_S, ConnectPace
from infra.binance.sockets import BinanceSockets
from infra.binance.stream_order import RELEASE_S, InOrder
from infra.binance.stream_pulse import StreamPulse
from infra.net.websocket_messages import MessageConnection

ROUTES: Final[tuple[Route, ...]] = ("market", "public")
STREAMS_PER_SOCKET: Final = 200  # one control message; a lost socket interrupts few streams
GARBAGE_EVENTS_MAX: Final = 5  # reported for each connection, so that many bad frames do not become many log lines

Take = Callable[["StreamLink", StreamFrame], None]


class StreamLink(Link[str]):
    """Passes frames on without decoding their events."""

    frame_bytes_max = 4 * 1024 * 1024  # a frame with the tickers of all symbols has about 300 kB

    def __init__(self, name: str, at: Destination, runtime: Runtime, take: Take) -> None:
        self._life = StreamPulse()
        super().__init__(name, at, runtime, self._life)
        self._take = take
        self._told = 0
        self.garbage = 0

    def _stream(self, key: str) -> str:
        return key

    def _drop(self, reason: str) -> None:
        self.garbage += 1
        if self._told < GARBAGE_EVENTS_MAX:
            self._told += 1
            self._observe(GarbageDropped(f"socket {self.name}", reason))

    async def _receive(self, connection: MessageConnection) -> None:
        while True:
            for frame in await connection.messages():
                self._take_frame(frame)

    def _take_frame(self, frame: bytes) -> None:
        try:
            message = decode_any(frame)
        except BadKline as error:
            self._drop(str(error))
            return
        if isinstance(message, StreamFrame):
            if message.stream in self._wanted:  # else it was unsubscribed while the frame was in flight
                self._life.beat(message.stream, self._clock.now_ms())
                self._take(self, message)
                self._life.first_frame.set()
        elif isinstance(message, ServerShutdown):
            self._leave_soon()
        elif message is not None:
            self._settle(message)


class MarketStreams:
    """The StreamSource of the hub in the writer process.

    Kline streams that the node ingests are not subscribed again: their frames come from its sockets, `klines`.
    """

    def __init__(
        self,
        at: Destination,
        runtime: Runtime,
        deliver: Listener,
        klines: BinanceSockets | None = None,
        *,
        per_socket: int = STREAMS_PER_SOCKET,
        life_s: float = LIFE_S,
    ) -> None:
        self._ws_url = at.url.rstrip("/")
        self._runtime = runtime
        self._klines = klines
        self._egress = at.egress
        self._in_order = InOrder(runtime.clock, deliver)
        self._wanted: dict[str, None] = {}
        self._tapped: dict[str, Series] = {}
        pace = ConnectPace(runtime.clock)
        self._fleets = {
            route: Fleet(
                f"streams-{route}",
                runtime,
                self._maker(route),
                per_shard=per_socket,
                life_s=life_s,
                pace=pace,
            )
            for route in ROUTES
        }
        if klines is not None:
            klines.passed_on = self._take_tapped

    def add(self, streams: Iterable[str]) -> None:
        """Also deliver `streams`; takes effect at once."""
        self._place([stream for stream in streams if stream not in self._wanted])

    def remove(self, streams: Iterable[str]) -> None:
        """Stop delivering `streams`."""
        for stream in streams:
            self._wanted.pop(stream, None)
            self._in_order.forget(stream)
            if self._tapped.pop(stream, None) is None and (name := parse(stream)) is not None:
                self._fleets[name.route].remove((stream,))
        self._retap()

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of the stream was received (ms); None when the stream may be dead."""
        series = self._tapped.get(stream)
        if series is not None and self._klines is not None:
            return self._klines.heard_ms(series)
        name = parse(stream)
        shard = self._fleets[name.route].shard_of(stream) if name is not None else None
        return shard.heard_ms(stream) if shard is not None else None

    def ingested_changed(self) -> None:
        """Called when the ingested series have changed: moves streams so that each stays subscribed once."""
        moved = [stream for stream in self._wanted if (self._ingested(stream) is None) is (stream in self._tapped)]
        for stream in moved:
            if self._tapped.pop(stream, None) is None and (name := parse(stream)) is not None:
                self._fleets[name.route].remove((stream,))
        self._place(moved)

    def status(self) -> dict[str, object]:
        """By socket: number of streams, of silent ones, age of the newest frame in ms, number of connects."""
        return {name: state for fleet in self._fleets.values() for name, state in fleet.status().items()}

    async def run(self) -> None:
        """Open and keep the sockets that the wanted streams need, for ever."""
        async with asyncio.TaskGroup() as tasks:
            for fleet in self._fleets.values():
                tasks.create_task(fleet.run())
            while True:
                await self._runtime.clock.sleep(RELEASE_S)
                self._in_order.release()

    def _place(self, streams: list[str]) -> None:
        by_route: dict[Route, list[str]] = {route: [] for route in ROUTES}
        for stream in streams:
            name = parse(stream)
            if name is None:
                continue
            self._wanted[stream] = None
            if (series := self._ingested(stream)) is not None:
                self._tapped[stream] = series
            else:
                by_route[name.route].append(stream)
        for route, names in by_route.items():
            self._fleets[route].add(names)
        self._retap()

    def _ingested(self, stream: str) -> Series | None:
        name = parse(stream)
        if self._klines is None or name is None or name.kind != "kline":
            return None
        series = Series(KLINES, name.symbol, INTERVALS[name.interval])
        return series if self._klines.carries(series) else None

    def _retap(self) -> None:
        if self._klines is not None:
            self._klines.tap(self._tapped.values())

    def _take_tapped(self, stream: str, payload: bytes, is_doubled: bool, is_ahead: bool) -> None:
        self._in_order.take(stream, payload, is_doubled=is_doubled, is_ahead=is_ahead)

    def _maker(self, route: Route) -> Callable[[str], StreamLink]:
        def take(link: StreamLink, frame: StreamFrame) -> None:
            if (shard := self._fleets[route].shard_of(frame.stream)) is not None:
                is_ahead = shard.is_ahead(link)
                self._in_order.take(frame.stream, frame.payload, is_doubled=shard.is_doubled, is_ahead=is_ahead)

        url = f"{self._ws_url}/{route}/stream"
        return lambda name: StreamLink(name, Destination(url, self._egress), self._runtime, take)
