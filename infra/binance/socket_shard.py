"""A share of the streams, carried by one socket after the other without a gap."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, Generic

from app.domain.backoff import full_jitter_s
from app.events import SocketHandedOver, SocketLost
from app.ports.clock import Clock
from app.runtime import Runtime
from infra.binance.socket_link import K, Link, LinkLost
from infra.net.waiting import until

LIFE_S: Final = 23 * 3_600.0  # the exchange ends connections after 24 h (binance-facts section 5.2)
LIFE_JITTER: Final = 0.02  # ± share of LIFE_S, so that sockets opened together are not replaced together
PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 60.0
CONNECT_GAP_S: Final = 1.0  # between two connection attempts of this node; the spot limit is 300 in 5 minutes
HANDOVER_S_MAX: Final = 90.0  # for every stream to deliver on the new socket; each has a closing frame a minute
COMPLAINT_GAP_S_FIRST: Final = 300.0
"""Between two hand-overs because of a complaint. It doubles while the new socket is no better: then the exchange, the
network or this machine is slow, and another socket does not help."""
COMPLAINT_GAP_S_MAX: Final = 4 * 3_600.0
HANDOVER_LINGER_S: Final = 5.0  # the old socket stays open for frames in flight


class ConnectPace:
    """Keeps CONNECT_GAP_S between the connection attempts of all sockets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._last_ms: int | None = None

    async def wait(self) -> None:
        """Return when it is this caller's turn to connect."""
        async with self._turn:
            since_ms = None if self._last_ms is None else self._clock.now_ms() - self._last_ms
            if since_ms is not None and 0 <= since_ms < CONNECT_GAP_S * 1_000:  # not if the clock was set back
                await self._clock.sleep(CONNECT_GAP_S - since_ms / 1_000)
            self._last_ms = self._clock.now_ms()


class Patience:
    """The pause between hand-overs because of complaints."""

    def __init__(self) -> None:
        self._given_ms: int | None = None
        self._gap_s = 0.0

    def gives_way(self, now_ms: int) -> bool:
        """Whether a complaint at `now_ms` leads to a hand-over; if so, the pause begins."""
        if self._given_ms is None or now_ms - self._given_ms > 2 * COMPLAINT_GAP_S_MAX * 1_000:
            self._gap_s = COMPLAINT_GAP_S_FIRST
        elif now_ms - self._given_ms < self._gap_s * 1_000:
            return False
        else:
            self._gap_s = min(COMPLAINT_GAP_S_MAX, 2 * self._gap_s)
        self._given_ms = now_ms
        return True


class Shard(Generic[K]):
    """Keeps one socket open for its streams: reconnects after a loss, and hands over before the exchange closes it."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        chance: Random,
        pace: ConnectPace,
        new_link: Callable[[str], Link[K]],
        *,
        life_s: float = LIFE_S,
    ) -> None:
        self.name = name
        self.streams: dict[K, None] = {}  # an ordered set, so that runs with one seed are alike
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._chance = chance
        self._pace = pace
        self._new_link = new_link
        self._life_s = life_s
        self._patience = Patience()
        self._connects = 0
        self._links: list[Link[K]] = []  # two during a hand-over, the new one last

    def apply(self) -> None:
        """Pass `streams` to the open sockets."""
        for link in self._links:
            link.want(dict(self.streams))

    @property
    def is_doubled(self) -> bool:
        """Whether two sockets carry the streams at the moment, so that each event arrives twice."""
        return len(self._links) > 1

    def is_ahead(self, link: Link[K]) -> bool:
        """Whether `link` is the new one of two that carry the streams."""
        return len(self._links) > 1 and self._links[0] is not link

    def heard_ms(self, key: K) -> int | None:
        """The event time (ms) of the newest frame that shows `key` to be alive on an open socket; None if none does."""
        times_ms = (link.pulse.heard_ms(key) for link in self._links if not link.ended.is_set())
        return max((time_ms for time_ms in times_ms if time_ms is not None), default=None)

    def exists(self, key: K, closed_ms: int) -> None:
        """Note that REST has a closed kline of `key` that ends at `closed_ms`."""
        for link in self._links:
            link.pulse.exists(key, closed_ms)

    def status(self) -> dict[str, object]:
        """Number of streams, of silent ones, age of the newest frame in ms, number of connects, complaint."""
        newest_ms = [link.pulse.newest_ms for link in self._links if link.pulse.newest_ms is not None]
        return {
            "streams": len(self.streams),
            "silent": self._links[-1].pulse.silent if self._links else 0,
            "newest_frame_age_ms": self._clock.now_ms() - max(newest_ms) if newest_ms else None,
            "connects": self._connects,
            "complaint": self._links[-1].pulse.complaint() if self._links else None,
        }

    async def run(self) -> None:
        """Keep a socket open for `streams`, for ever."""
        failures = 0
        old: tuple[Link[K], asyncio.Task[None]] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._clock.sleep(full_jitter_s(self._chance, failures, PAUSE_S_FIRST, PAUSE_S_MAX))
                await self._pace.wait()
                link = self._open()
                task = tasks.create_task(self._carry(link))
                if old is None or old[0].ended.is_set():
                    await link.pulse.first_frame.wait()
                else:
                    await until(link.pulse.all_heard, self._clock, HANDOVER_S_MAX)
                if link.pulse.newest_ms is None:
                    failures += 1
                    task.cancel()
                    continue
                failures = 0  # only a frame proves that the connection works
                if old is not None:
                    await until(link.ended, self._clock, HANDOVER_LINGER_S)
                    if link.ended.is_set() and not old[0].ended.is_set():
                        failures += 1
                        continue  # the old one stays in use
                    old[1].cancel()
                old = link, task
                if reason := await self._serve(link):
                    self._observe(SocketHandedOver(link.name, reason))

    async def _serve(self, link: Link[K]) -> str | None:
        """Wait until `link` has ended (None) or should be replaced while it still delivers; returns the reason."""
        life_s = self._life_s * self._chance.uniform(1 - LIFE_JITTER, 1 + LIFE_JITTER)
        ends_ms = self._clock.now_ms() + int(life_s * 1_000)
        while (left_ms := ends_ms - self._clock.now_ms()) > 0:
            await until(link.notice, self._clock, left_ms / 1_000)
            link.notice.clear()
            if link.ended.is_set():
                return None
            if link.is_leaving:
                return "the exchange announced its end"
            if (complaint := link.pulse.complaint()) and self._patience.gives_way(self._clock.now_ms()):
                return complaint
        return "near the end of its life"

    def _open(self) -> Link[K]:
        self._connects += 1
        link = self._new_link(f"{self.name}.{self._connects}")
        link.want(dict(self.streams))
        self._links.append(link)
        return link

    async def _carry(self, link: Link[K]) -> None:
        try:
            await link.run()
        except LinkLost as lost:
            self._observe(SocketLost(link.name, str(lost)))
        finally:
            self._links.remove(link)
