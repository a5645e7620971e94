"""Binance's kline streams: which socket carries which, and the one sequence of events they make."""

import asyncio
from collections.abc import AsyncIterator, Collection
from itertools import count
from random import Random
from typing import Final

from app.events import Observe
from app.ports import Clock, Series
from app.wire.stream_event import KlineEvent
from infra.binance.socket_intake import QUEUE_MAX, Intake
from infra.binance.socket_link import Link
from infra.binance.socket_pulse import Key
from infra.binance.socket_shard import LIFE_S, ConnectPace, Shard

STREAMS_MAX: Final = 1_024  # on one connection; one more and the exchange closes it (binance-facts section 5.2)
STREAMS_PER_SOCKET: Final = 200  # one control message; a cut costs few streams, 700 symbols need four sockets


class BinanceSockets:
    """Kline streams from `<ws_url>/market/stream`, spread over as many sockets as they need. See app/ports.py."""

    def __init__(
        self,
        ws_url: str,
        clock: Clock,
        observe: Observe,
        *,
        seed: int = 0,
        proxy: str | None = None,
        streams_per_socket: int = STREAMS_PER_SOCKET,
        queue_max: int = QUEUE_MAX,
        life_s: float = LIFE_S,
    ) -> None:
        assert 1 <= streams_per_socket <= STREAMS_MAX, f"{streams_per_socket} streams do not fit one connection"
        self._ws_url = ws_url
        self._clock = clock
        self._observe = observe
        self._chance = Random(seed)  # noqa: S311  spreads reconnects, guards nothing
        self._proxy = proxy
        self._streams_per_socket = streams_per_socket
        self._life_s = life_s
        self._intake = Intake(clock, observe, queue_max)
        self._pace = ConnectPace(clock)
        self._wanted: dict[Key, Series] = {}
        self._changed = asyncio.Event()
        self._numbers = count(1)
        self._shards: list[Shard] = []

    def want(self, streams: Collection[Series]) -> None:
        """Set which series are streamed; takes effect without a restart."""
        self._wanted = {(series.symbol, series.interval.code): series for series in streams}
        self._changed.set()

    def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever. After a reconnect or a hand-over some come twice or late."""
        return self._intake.events()

    def heard_ms(self, series: Series) -> int | None:
        """The event time of the newest frame on a socket whose stream of `series` is alive; None when there is none."""
        key = series.symbol, series.interval.code
        for shard in self._shards:
            if key in shard.streams:
                return shard.heard_ms(key)
        return None

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`: one that kept silent is sick, not quiet."""
        key = series.symbol, series.interval.code
        for shard in self._shards:
            if key in shard.streams:
                shard.exists(key, closed_ms)

    @property
    def queue_depth(self) -> int:
        """Events that wait to be taken in."""
        return self._intake.depth

    def status(self) -> dict[str, object]:
        """By socket: streams, age of the newest frame in ms, connects; and the state of the queue behind them."""
        return {
            "sockets": {shard.name: shard.status() for shard in self._shards},
            "queue_depth": self._intake.depth,
            "queue_waits": self._intake.waits_total,
            "garbage_frames": self._intake.garbage_total,
        }

    async def run(self) -> None:
        """Keep the sockets that the wanted streams need, for ever."""
        running: dict[Shard, asyncio.Task[None]] = {}
        self._shards = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._intake.report())
            while True:
                self._changed.clear()
                self._distribute()
                for shard in [shard for shard in running if shard not in self._shards]:
                    running.pop(shard).cancel()
                for shard in self._shards:
                    if shard not in running:
                        running[shard] = tasks.create_task(shard.run())
                await self._changed.wait()

    def _distribute(self) -> None:
        """Give every wanted stream a shard with room; what is not wanted leaves, and so do shards left empty."""
        held: set[Key] = set()
        for shard in self._shards:
            for key in [key for key in shard.streams if key not in self._wanted]:
                del shard.streams[key]
            held.update(shard.streams)
        roomy = iter([shard for shard in self._shards if len(shard.streams) < self._streams_per_socket])
        open_shard = next(roomy, None)
        for key in [key for key in self._wanted if key not in held]:
            if open_shard is None or len(open_shard.streams) >= self._streams_per_socket:
                open_shard = next(roomy, None) or self._new_shard()
            open_shard.streams[key] = self._wanted[key]
        self._shards = [shard for shard in self._shards if shard.streams]
        for shard in self._shards:
            shard.apply()

    def _new_shard(self) -> Shard:
        name = f"market-{next(self._numbers)}"
        chance = Random(self._chance.random())  # noqa: S311
        shard = Shard(name, self._clock, self._observe, chance, self._pace, self._new_link, life_s=self._life_s)
        self._shards.append(shard)
        return shard

    def _new_link(self, name: str) -> Link:
        return Link(name, self._ws_url, self._clock, self._observe, self._intake, proxy=self._proxy)
