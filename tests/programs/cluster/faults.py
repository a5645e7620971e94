"""The faults: what happens to the cluster, and how it is mended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.programs.cluster.stage import Cluster, Node

Mend = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    begin: Callable[[Cluster], Awaitable[Mend]]
    """Lets it happen, and returns what ends it."""
    lasts_s: float
    """From the beginning until it is mended."""
    is_of_the_writer: bool = False
    """Whether the lease is lost by it, so that it must be held again soon. Such a fault comes just before a close."""
    is_of_the_server: bool = False
    """Whether the database is away while it begins. The lease must be held again soon after that."""


async def _nothing() -> None:
    pass


async def _kill_the_writer(cluster: Cluster) -> Mend:
    node = cluster.writer()
    node.program.kill()

    async def mend() -> None:
        node.serve()

    return mend


async def _suspend_the_writer(cluster: Cluster) -> Mend:
    node = cluster.writer()
    node.suspend()

    async def mend() -> None:
        node.resume()

    return mend


async def _kill_redis(cluster: Cluster) -> Mend:
    cluster.redis.kill()

    async def mend() -> None:
        await asyncio.to_thread(cluster.redis.start)

    return mend


async def _kill_the_replica(cluster: Cluster) -> Mend:
    await asyncio.to_thread(cluster.standby.kill)

    async def mend() -> None:
        await asyncio.to_thread(cluster.standby.start)

    return mend


async def _restart_fast(cluster: Cluster) -> Mend:
    await asyncio.to_thread(cluster.primary.restart)
    return _nothing


async def _restart_immediately(cluster: Cluster) -> Mend:
    await asyncio.to_thread(lambda: cluster.primary.restart(is_immediate=True))
    return _nothing


async def _cut_the_writer_off(cluster: Cluster) -> Mend:
    return _cut_off(cluster.writer())


async def _cut_the_follower_off(cluster: Cluster) -> Mend:
    return _cut_off(cluster.follower())


def _cut_off(node: Node) -> Mend:
    node.network.cut()

    async def mend() -> None:
        node.network.mend()

    return mend


FAULTS: Final = (
    Fault("writer: SIGKILL", _kill_the_writer, 8, is_of_the_writer=True),
    Fault("writer: SIGSTOP 30 s, SIGCONT", _suspend_the_writer, 30, is_of_the_writer=True),
    Fault("writer: no network to the database", _cut_the_writer_off, 12, is_of_the_writer=True),
    Fault("primary: immediate restart", _restart_immediately, 4, is_of_the_writer=True, is_of_the_server=True),
    Fault("primary: fast restart", _restart_fast, 4, is_of_the_server=True),
    Fault("follower: no network to the database", _cut_the_follower_off, 8),
    Fault("Redis: SIGKILL, restart", _kill_redis, 6),
    Fault("replica: SIGKILL, restart", _kill_the_replica, 6),
)
