"""The limit for the node's sockets: a server that only calls `websockets.broadcast`.

`python -m tests.programs.bench.broadcast PORT FILE` serves /stream?streams=… and, from SIGUSR1 on, sends the messages
in FILE again and again, each at its recorded time, to the clients that subscribed to its stream.
"""

import asyncio
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import orjson
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from infra.process.clock import SystemClock

_QUERY: Final = "streams="


async def run(port: int, messages: list[tuple[float, str, str]]) -> None:
    """Serve until the process is killed."""
    wanted: dict[str, set[ServerConnection]] = defaultdict(set)
    begun = asyncio.Event()
    loop, clock = asyncio.get_running_loop(), SystemClock()
    loop.add_signal_handler(signal.SIGUSR1, begun.set)

    async def follow(connection: ServerConnection) -> None:
        assert connection.request is not None
        names = unquote(connection.request.path.partition(_QUERY)[2]).split("/")
        for name in names:
            wanted[name].add(connection)
        try:
            await connection.wait_closed()
        finally:
            for name in names:
                wanted[name].discard(connection)

    async with serve(follow, "127.0.0.1", port, compression=None, ping_interval=None):
        await begun.wait()
        while True:
            began_s = loop.time()
            for offset_s, stream, message in messages:
                if (early_s := began_s + offset_s - loop.time()) > 0:
                    await clock.sleep(early_s)
                broadcast(wanted[stream], message)


def main() -> None:
    """Read the arguments and serve until the process is killed."""
    port, path = sys.argv[1:]
    messages = [(float(at), stream, text) for at, stream, text in orjson.loads(Path(path).read_bytes())]
    uvloop.run(run(int(port), messages))


if __name__ == "__main__":
    main()
