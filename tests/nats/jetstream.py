"""What tests of JetStream share: a publisher that runs, and a reader by plain nats-py."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NothingMore
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from app.ports.publishing import Message, StreamPlan
from infra.nats.publisher import Greet, JetStreamPublisher
from tests.fakes import DAY0_MS
from tests.fast_clock import ScaledClock
from tests.patience import PATIENCE_S
from tests.system.processes import until

PLAN: Final = StreamPlan("T", ("market.*.*.trade",), 1_000_000, 3_600, 600)
SUBJECT: Final = "market.x.BTC-USDT.trade"
MORE_S: Final = 0.3  # a local server has answered long before


def numbered(number: int, body: bytes = b"{}") -> Message:
    return Message(SUBJECT, body, f"x/swap/BTC-USDT/trade/{number}", (("Klinenode-Market", "swap"),))


@asynccontextmanager
async def publishing(
    url: str, plans: Sequence[StreamPlan] = (PLAN,), greet: Greet | None = None
) -> AsyncIterator[JetStreamPublisher]:
    """A publisher that runs; it need not be usable yet."""
    publisher = JetStreamPublisher(url, plans, ScaledClock(DAY0_MS, 20), Random(1), greet=greet)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(publisher.run())
        try:
            yield publisher
        finally:
            task.cancel()


async def usable(publisher: JetStreamPublisher) -> None:
    async def is_usable() -> bool:
        return publisher.fault() is None

    await until(is_usable, "the stream takes messages", every_s=0.005)


async def faulty(publisher: JetStreamPublisher, words: str) -> str:
    """Wait for a fault with these words, and return it."""

    async def fault() -> str:
        sentence = publisher.fault() or ""
        return sentence if words in sentence else ""

    return await until(fault, f"a fault with {words!r}", every_s=0.005)


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Client]:
    """A connection by plain nats-py."""
    client = await nats.connect(url, connect_timeout=int(PATIENCE_S))
    try:
        yield client
    finally:
        await client.close()


async def read(url: str, stream: str = "T") -> list[tuple[str, dict[str, str], Any]]:
    """Subject, headers and body of every message that a stream holds, in its order."""
    async with plain(url) as client:
        context = client.jetstream(timeout=PATIENCE_S)
        try:
            held = (await context.stream_info(stream)).state.messages
        except NotFoundError:
            return []
        unacknowledged = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription = await context.pull_subscribe("", stream=stream, config=unacknowledged)
        found: list[tuple[str, dict[str, str], Any]] = []
        while len(found) < held:
            try:
                got = await subscription.fetch(500, timeout=MORE_S)
            except NothingMore:
                continue
            found += [(each.subject, dict(each.headers or {}), json.loads(each.data)) for each in got]
        return found


async def call(url: str, words: str, body: object = None) -> dict[str, Any]:
    """The answer of the server's API for JetStream."""
    async with plain(url) as client:
        payload = json.dumps(body).encode() if body is not None else b""
        answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{words}", payload, PATIENCE_S)).data)
        return answer
