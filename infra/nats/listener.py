"""A subscriber of plain NATS, for the demo: it prints the first message of each subject, and then how many come."""

import asyncio
import contextlib
import sys
from collections import Counter
from typing import Final

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from app.ports.clock import Clock
from infra.process.clock import SystemClock

ALL: Final = "market.>"
SHOWN: Final = 160
"""Characters of a message that are printed."""
EVERY_S: Final = 10.0
PING_AGAIN_S: Final = 0.5


async def listen(url: str, clock: Clock) -> None:
    """Print what is published on the server at `url`, until cancelled. Raises nats.errors.Error, OSError."""
    counts: Counter[str] = Counter()
    client = await nats.connect(url)

    async def take(message: Msg) -> None:
        if message.subject not in counts:
            _print(f"{message.subject}  {message.data[:SHOWN].decode(errors='replace')}")
        counts[message.subject] += 1

    await client.subscribe(ALL, cb=take)
    _print(f"$SRV.PING  {await _pong(client, clock)}")
    while True:
        before = counts.total()
        await clock.sleep(EVERY_S)
        _print(f"{len(counts)} subjects, {(counts.total() - before) / EVERY_S:.0f} messages/s")


async def _pong(client: Client, clock: Clock) -> str:
    """The answer to a ping of services, once there is one."""
    while True:
        try:
            return (await client.request("$SRV.PING", b"", timeout=EVERY_S)).data.decode()
        except (NoRespondersError, TimeoutError):
            await clock.sleep(PING_AGAIN_S)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(listen(sys.argv[1], SystemClock()))
