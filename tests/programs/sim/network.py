"""The simulated network: listeners, connections, and the faults between two machines.

The real httpx, websockets and uvicorn run on it unchanged: both ends of a connection are asyncio transports.
"""

import asyncio
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final

from tests.programs.sim.loop import Fate, SimLoop
from tests.programs.sim.tcp import End, FakeSocket, Link

CONNECT_S_MAX: Final = 127.0  # Linux gives up after six SYNs


class Listener(asyncio.AbstractServer):
    """A listening server, as `create_server` returns it."""

    def __init__(self, network: "Network", factory: Callable[[], asyncio.Protocol], address: tuple[str, int]) -> None:
        self.factory, self.context, self.address = factory, copy_context(), address
        self.sockets = (FakeSocket(network, address, None),)
        self._network = network

    def close(self) -> None:
        self._network.listeners.pop(self.address, None)

    async def wait_closed(self) -> None:
        return

    def get_loop(self) -> SimLoop:
        return self._network.loop

    async def start_serving(self) -> None:
        self._network.listeners[self.address] = self

    async def serve_forever(self) -> None:
        await self._network.loop.create_future()

    def is_serving(self) -> bool:
        return self.address in self._network.listeners


class Network:
    """All connections, and the current faults between the machines.

    A surface is a port of the exchange: its REST, its sockets or its archive. Each can fail separately.
    """

    def __init__(self, loop: SimLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.context = Context()  # the kernel's, which belongs to no process
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.aliases: dict[int, tuple[str, tuple[str, int]]] = {}
        self.links: dict[Link, None] = {}
        self.on_write: Callable[[End, bytes], None] = lambda end, data: None
        self.split_share = 0.1
        self.base_latency_s = 0.002
        self.jitter_s = 0.004
        self.connects = 0
        self._slow: dict[str, tuple[float, float, float]] = {}
        self._refuses: dict[str, float] = {}
        self._blocked: dict[str, float] = {}
        self._next_port = 40_000
        self.quiet_fd = os.eventfd(0)
        self.readable_fd = os.eventfd(1)

    def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        """Accept connections at an address."""
        listener = self.listeners[host, port] = Listener(self, factory, (host, port))
        return listener

    def alias(self, port: int, surface: str, address: tuple[str, int]) -> None:
        """Make `port` lead to the listener at `address`, as a surface that can fail separately."""
        self.aliases[port] = (surface, address)

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> tuple[End, Any]:
        """Open a connection. Raises the OSError that a real connection would raise."""
        surface, address = self.aliases.get(port, ("", (host, port)))
        loop, started_s = self.loop, self.loop.time()
        await self._wait(self.latency_s(surface, 0))
        if (blocked_s := self._blocked.get(surface, 0.0)) > loop.time():
            await self._wait(min(blocked_s - loop.time() + self.chance.random(), CONNECT_S_MAX))
            if loop.time() - started_s >= CONNECT_S_MAX:
                raise TimeoutError(110, "Connection timed out")
        listener = self.listeners.get(address)
        if listener is None or self._refuses.get(surface, 0.0) > loop.time():
            raise ConnectionRefusedError(111, f"Connect call failed {(host, port)!r}")
        await self._wait(self.latency_s(surface, 0))
        self.connects += 1
        self._next_port += 1
        mine, theirs = ("127.0.0.1", self._next_port), (host, port)
        link = Link(self, surface)
        link.client = End(link, factory(), copy_context(), [mine, theirs])
        link.server = End(link, listener.context.run(listener.factory), listener.context, [theirs, mine])
        link.client.peer, link.server.peer = link.server, link.client
        self.links[link] = None
        for end in (link.server, link.client):
            loop.call_soon(end.get_protocol().connection_made, end, context=end.context)
        waiter = loop.create_future()
        loop.call_soon(_wake, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            link.client.close()
            raise
        return link.client, link.client.get_protocol()

    def latency_s(self, surface: str, size: int) -> float:
        """The seconds that a chunk of `size` bytes takes now."""
        latency_s = self.base_latency_s + self.chance.random() * self.jitter_s
        slow = self._slow.get(surface)
        if slow is not None and slow[0] > self.loop.time():
            latency_s += slow[1] + size / slow[2]
        return latency_s

    def forget(self, link: Link) -> None:
        """Drop a connection whose ends are both closed."""
        if link.client.is_lost and link.server.is_lost:
            self.links.pop(link, None)

    def of(self, fate: Fate) -> list[End]:
        """The ends that a process holds open."""
        return [link.client for link in self.links if link.client.fate is fate and not link.client.is_lost]

    def bury(self, fate: Fate, *, silently: bool) -> None:
        """Close a dead process's connections; `silently`: its machine is gone, and the exchange gets no FIN or RST."""
        for end in self.of(fate):
            if silently:
                end.vanishes = True
                end.link.give_up_later(end.peer)
            else:
                end.vacate()
                self.forget(end.link)

    # --- faults -------------------------------------------------------------------------------------------------

    def cut(self, surface: str, *, politely: bool = False) -> int:
        """End the connections of a surface, by RST on both sides or (`politely`) by FIN from the exchange."""
        links = self._of(surface)
        for link in links:
            if politely:
                link.server.abort()
            else:
                link.client.reset()
                link.server.reset()
        return len(links)

    def vanish(self, surface: str, direction: str) -> int:
        """Lose all further data of a surface's open connections in one direction: `in`, `out` or `both`."""
        links = self._of(surface)
        for link in links:
            link.client.vanishes |= direction in ("out", "both")
            link.server.vanishes |= direction in ("in", "both")
        return len(links)

    def refuse(self, surface: str, duration_s: float) -> None:
        """Refuse new connections to a surface for a while."""
        self._refuses[surface] = self.loop.time() + duration_s

    def block(self, surface: str, duration_s: float, *, only_new: bool = False) -> None:
        """Block a surface for a while: new connections and, unless `only_new`, the data of open ones wait."""
        until_s = self._blocked[surface] = self.loop.time() + duration_s
        for link in () if only_new else self._of(surface):
            link.blocked_until_s = until_s

    def slow(self, surface: str, duration_s: float, delay_s: float, bytes_per_s: float) -> None:
        """Add latency to a surface and limit its bandwidth for a while."""
        self._slow[surface] = (self.loop.time() + duration_s, delay_s, bytes_per_s)

    def heal(self) -> None:
        """End all faults; connections that lose their data continue to lose it."""
        self._slow.clear()
        self._refuses.clear()
        self._blocked.clear()
        for link in self.links:
            link.blocked_until_s = 0.0

    def _of(self, surface: str) -> list[Link]:
        return [link for link in self.links if link.surface == surface]

    async def _wait(self, delay_s: float) -> None:
        future: asyncio.Future[None] = self.loop.create_future()
        timer = self.loop.call_later(delay_s, _wake, future)
        try:
            await future
        finally:
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
