"""The stage: two nodes that share only a database, its replica, Redis and nginx, each a real program on loopback."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.postgres.standby import Standby
from tests.postgres_server import PostgresServer, execute
from tests.programs.cluster.load import Load, Questions
from tests.programs.cluster.watch import Watch
from tests.redis_server import RedisServer
from tests.system.nginx import NGINX, nginx_conf
from tests.system.processes import Place, Program, Programs, free_port, until
from tests.system.test_process_stream_workers import apart
from tests.tcp_proxy import TcpProxy

DATABASE: Final = "klinenode"
SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT")
NAMES: Final = ("node_a", "node_b")
"""The nodes, and their users of the database, by which it tells them apart."""
PRIMARY: Final = ("synchronous_commit=on", "wal_keep_size=256MB")  # commits survive an immediate stop
UNLIMITED: Final = "1000000r/s"  # all clients have one address here
START_S_MAX: Final = 120.0


@dataclass
class Node:
    """One node on a host of its own, and its network to the database."""

    name: str
    place: Place
    network: TcpProxy
    program: Program

    def serve(self) -> None:
        """Start the node, after its end."""
        self.program = self.place.serve()

    def suspend(self) -> None:
        """Stop all its processes where they are."""
        self.program.signal(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        """Let them go on."""
        self.program.signal(signal.SIGCONT, group=True)

    async def is_well(self) -> bool:
        """Whether the node is ready, and reports nothing that is wrong."""
        if (await self.place.get("/v1/ready")).status_code != 200:
            return False
        return not (await self.place.health())["reasons"]


@dataclass
class Cluster:
    """Everything that runs."""

    sandbox: SandboxServer
    primary: PostgresServer
    standby: Standby
    redis: RedisServer
    nodes: tuple[Node, Node]
    watch: Watch
    load: Load

    def writer(self) -> Node:
        """The node that holds the lease, as its holder's address in the database says."""
        return next(node for node in self.nodes if node.place.settings["NODE_URL"] == self.watch.last.url)

    def follower(self) -> Node:
        """The other node."""
        writer = self.writer()
        return next(node for node in self.nodes if node is not writer)

    async def are_well(self) -> bool:
        """Whether one node has the lease, and both are well."""
        is_held = bool(self.watch.looks) and self.watch.last.session is not None
        return is_held and all([await node.is_well() for node in self.nodes])


@asynccontextmanager
async def staged(folder: Path, seed: int, rate: float) -> AsyncIterator[Cluster]:
    """Start everything in an empty folder, with clients that ask `rate` times a second, and end it afterwards.

    Skips, as a test does, if Postgres, Redis or nginx is not installed.
    """
    assert NGINX is not None, "nginx is not installed (apt-get install nginx-light)"
    clock = SystemClock()
    with PostgresServer(settings=PRIMARY) as primary, Standby(primary) as standby, RedisServer(folder) as redis:
        password = urlsplit(primary.tcp_url()).password
        roles = [f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{password}'" for name in NAMES]
        await execute(primary.url(), f"CREATE DATABASE {DATABASE} TEMPLATE template0", *roles)
        async with (
            SandboxServer(clock, seed=seed, symbols=len(SYMBOLS)) as sandbox,
            Programs(folder) as programs,
            TcpProxy(primary.port) as first,
            TcpProxy(primary.port) as second,
        ):
            nodes: list[Node] = []
            for name, network in zip(NAMES, (first, second), strict=True):
                url = primary.tcp_url(DATABASE, port=network.port).replace("//postgres:", f"//{name}:")
                place = Place(programs, sandbox.port, server_url=url)
                place.settings |= {
                    "SYMBOLS": ",".join(SYMBOLS),
                    "AUTO_SYNC_SYMBOLS": "false",
                    "PYTHONPATH": "/tmp/dbg",
                    "DB_READ_URL": standby.url(DATABASE),
                    "CACHE_URL": redis.url,
                }
                apart(place, folder / name)
                nodes.append(Node(name, place, network, place.serve()))
                await until(place.is_whole, f"{name} holds the wish", START_S_MAX)
                await until(nodes[-1].is_well, f"{name} is well", START_S_MAX)
            places = [node.place for node in nodes]
            port = free_port()
            prefix = folder / "nginx"
            prefix.mkdir()
            conf = nginx_conf(prefix, port, places[0].port, second_port=places[1].port, rate=UNLIMITED)
            programs.start("-p", str(prefix), "-c", str(conf), "-e", str(prefix / "error.log"), command=(NGINX,))
            front = Place(programs, sandbox.port, port=port)
            await until(front.is_up, "nginx answers", START_S_MAX)
            questions = Questions(sandbox.exchange, SYMBOLS, random.Random(seed))
            load = Load(f"http://127.0.0.1:{port}", questions, rate)
            watch = Watch(primary.url(DATABASE), SYMBOLS, places)
            await watch.prepare()
            cluster = Cluster(sandbox, primary, standby, redis, (nodes[0], nodes[1]), watch, load)
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(watch.run()), tasks.create_task(load.run(clock.now_ms))]
                try:
                    yield cluster
                finally:
                    for task in running:
                        task.cancel()
                    programs.end()  # what they have logged is in the folder
