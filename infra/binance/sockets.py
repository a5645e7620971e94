"""The kline streams of the wished series, merged into one sequence of events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Final

from app.binance.stream_event import KlineEvent, KlineHead, StreamFrame, head_of
from app.domain.series import Series
from app.outbound import Destination
from app.runtime import Runtime
from infra.binance.socket_fleet import Fleet
from infra.binance.socket_intake import QUEUE_MAX, Intake
from infra.binance.socket_klines import KlineLink, Tap
from infra.binance.socket_pulse import Key
from infra.binance.socket_shard import LIFE_S

STREAMS_MAX: Final = 1_024  # on one connection; the exchange closes it for one more (binance-facts section 5.2)
STREAMS_PER_SOCKET: Final = 200  # one control message; a loss interrupts few streams, 700 symbols need four sockets


class BinanceSockets:
    """Kline streams from `<ws_url>/market/stream`, on as many sockets as they need."""

    def __init__(
        self,
        at: Destination,
        runtime: Runtime,
        *,
        streams_per_socket: int = STREAMS_PER_SOCKET,
        queue_max: int = QUEUE_MAX,
        life_s: float = LIFE_S,
    ) -> None:
        assert 1 <= streams_per_socket <= STREAMS_MAX, f"{streams_per_socket} streams do not fit one connection"
        self._at = at
        self._runtime = runtime
        self._intake = Intake(runtime.clock, runtime.observe, queue_max)
        self._tapped: dict[Key, KlineHead] = {}
        self._tapped_names: set[bytes] = set()
        self.passed_on: Callable[[str, bytes, bool, bool], None] = lambda stream, payload, is_doubled, is_ahead: None
        """Called with frames of tapped streams: name, event, if two sockets carry it, and if this is the new one."""
        self._fleet: Fleet[Key] = Fleet(
            "market",
            runtime,
            self._new_link,
            per_shard=streams_per_socket,
            life_s=life_s,
        )

    def want(self, streams: Collection[Series]) -> None:
        """Set the series to stream; takes effect at once."""
        self._fleet.want((series.name, series.interval.code) for series in streams)

    def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever. After a reconnect or hand-over, some arrive twice or late.

        Final klines come before live ones that arrived at the same time. Of several states of a live kline that did,
        only the newest is certain to come.
        """
        return self._intake.events()

    def heard_ms(self, series: Series) -> int | None:
        """The event time (ms) of the newest frame that shows the stream of `series` to be alive; None if none does."""
        key = series.name, series.interval.code
        shard = self._fleet.shard_of(key)
        return shard.heard_ms(key) if shard is not None else None

    def exists(self, series: Series, closed_ms: int) -> None:
        """Note that REST has a closed kline of `series` ending at `closed_ms`: a silent stream of it is broken."""
        key = series.name, series.interval.code
        if (shard := self._fleet.shard_of(key)) is not None:
            shard.exists(key, closed_ms)

    def carries(self, series: Series) -> bool:
        """Whether the stream of `series` is wanted here."""
        return self._fleet.wants((series.name, series.interval.code))

    def tap(self, series: Iterable[Series]) -> None:
        """Set the series whose undecoded frames are passed to `passed_on`."""
        self._tapped.clear()
        self._tapped_names.clear()
        for one in series:
            head = head_of(one.symbol, one.interval)
            self._tapped[one.symbol, one.interval.code] = head
            self._tapped_names.add(head.stream.encode())

    @property
    def queue_depth(self) -> int:
        """How many events wait for the consumer."""
        return self._intake.depth

    def status(self) -> dict[str, object]:
        """By socket: streams, age of the newest frame in ms, connects; and the state of the queue."""
        return {
            "sockets": self._fleet.status(),
            "queue_depth": self._intake.depth,
            "queue_waits": self._intake.waits_total,
            "garbage_frames": self._intake.garbage_total,
        }

    async def run(self) -> None:
        """Open and keep the sockets that the wanted streams need, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._intake.report())
            tasks.create_task(self._fleet.run())

    def _new_link(self, name: str) -> KlineLink:
        tap = Tap(self._tapped, self._tapped_names, self._pass_on)
        return KlineLink(name, self._at, self._runtime, self._intake, tap)

    def _pass_on(self, link: KlineLink, key: Key, frame: StreamFrame) -> None:
        if (shard := self._fleet.shard_of(key)) is not None:
            self.passed_on(frame.stream, frame.payload, shard.is_doubled, shard.is_ahead(link))
