"""The assignment of streams to shards: as many shards as needed, and each stream on exactly one."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import Generic

from app.runtime import Runtime
from infra.binance.socket_link import K, Link
from infra.binance.socket_shard import LIFE_S, ConnectPace, Shard


class Fleet(Generic[K]):
    """Spreads streams over shards of at most `per_shard`; a stream stays on its shard while it is wanted."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        new_link: Callable[[str], Link[K]],
        *,
        per_shard: int,
        life_s: float = LIFE_S,
        pace: ConnectPace | None = None,
    ) -> None:
        self._name = name
        self._runtime = runtime
        self._chance = runtime.rng(name)
        self._new_link = new_link
        self._per_shard = per_shard
        self._life_s = life_s
        self._pace = pace or ConnectPace(runtime.clock)
        self._wanted: dict[K, None] = {}
        self._moved: dict[K, None] = {}  # added or removed since the last `_distribute`
        self._changed = asyncio.Event()
        self._numbers = count(1)
        self._homes: dict[K, Shard[K]] = {}
        self._shards: list[Shard[K]] = []

    def want(self, keys: Iterable[K]) -> None:
        """Set the wanted streams; takes effect at once."""
        wanted = dict.fromkeys(keys)
        self.remove([key for key in self._wanted if key not in wanted])
        self.add(wanted)

    def add(self, keys: Iterable[K]) -> None:
        """Add wanted streams."""
        added = dict.fromkeys(key for key in keys if key not in self._wanted)
        self._wanted.update(added)
        self._note(added)

    def remove(self, keys: Iterable[K]) -> None:
        """Remove wanted streams."""
        removed = dict.fromkeys(key for key in keys if key in self._wanted)
        for key in removed:
            del self._wanted[key]
        self._note(removed)

    def wants(self, key: K) -> bool:
        """Whether a stream is wanted."""
        return key in self._wanted

    def _note(self, moved: dict[K, None]) -> None:
        if moved:
            self._moved.update(moved)
            self._changed.set()

    def shard_of(self, key: K) -> Shard[K] | None:
        """The shard of a stream; None if it has none yet."""
        return self._homes.get(key)

    def status(self) -> dict[str, object]:
        """By shard: number of streams, age of the newest frame in ms, number of connects."""
        return {shard.name: shard.status() for shard in self._shards}

    async def run(self) -> None:
        """Run the shards that the wanted streams need, for ever."""
        running: dict[Shard[K], asyncio.Task[None]] = {}
        self._shards, self._homes, self._moved = [], {}, dict(self._wanted)
        async with asyncio.TaskGroup() as tasks:
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
        """Assign added streams to shards with room, and drop removed streams and empty shards."""
        touched: dict[Shard[K], None] = {}
        moved, self._moved = self._moved, {}
        for key in [key for key in moved if key not in self._wanted and key in self._homes]:
            shard = self._homes.pop(key)
            del shard.streams[key]
            touched[shard] = None
        roomy = iter([shard for shard in self._shards if len(shard.streams) < self._per_shard])
        open_shard = next(roomy, None)
        for key in [key for key in moved if key in self._wanted and key not in self._homes]:
            if open_shard is None or len(open_shard.streams) >= self._per_shard:
                open_shard = next(roomy, None) or self._new_shard()
            open_shard.streams[key] = None
            self._homes[key] = open_shard
            touched[open_shard] = None
        self._shards = [shard for shard in self._shards if shard.streams]
        for shard in touched:
            shard.apply()

    def _new_shard(self) -> Shard[K]:
        name = f"{self._name}-{next(self._numbers)}"
        chance = Random(self._chance.random())  # noqa: S311
        shard = Shard(name, self._runtime, chance, self._pace, self._new_link, life_s=self._life_s)
        self._shards.append(shard)
        return shard
