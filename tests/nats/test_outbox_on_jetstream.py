"""Records through outboxes, a spill on disk and a real JetStream, any of which is killed: each once, in order."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest

from app.collecting.kept_outbox import Batching, Hooks
from app.collecting.outboxes import KEPT, Outboxes, Surroundings
from app.domain.instrument import Instrument
from infra.nats.service import SUBJECT, CollectorService
from infra.spill.segments import SegmentSpill
from tests.collecting.stream import BTC, ETH, Heard, delta, snapshot, ticker, trade
from tests.fakes import DAY0_MS, turn
from tests.fast_clock import ScaledClock
from tests.nats.jetstream import faulty, plain, publishing, read, usable
from tests.nats.publishing_child import PLANS, ROOM
from tests.nats_server import NatsServer
from tests.patience import PATIENCE_S
from tests.system.processes import ROOT, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as found:
        yield found


@asynccontextmanager
async def collecting(url: str, folder: Path, heard: Heard, seed: int = 1) -> AsyncIterator[Outboxes]:
    """All outboxes, publishing to `url`."""
    spills = {name: SegmentSpill(folder / name, ROOM, pytest.fail) for name in KEPT}
    async with publishing(url, PLANS) as publisher:
        hooks = Hooks(heard.stored.extend, lambda records, _: heard.refused.extend(records), heard.spilling.append)
        clock = ScaledClock(DAY0_MS, 20)
        outboxes = Outboxes(
            Surroundings(publisher, spills, clock, Random(seed), hooks, heard.lost.append, Batching(20, 0.01))
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(outboxes.run())
            try:
                yield outboxes
            finally:
                task.cancel()


async def through(outboxes: Outboxes) -> None:
    """Wait until everything is in the stream."""

    async def is_through() -> bool:
        statuses = outboxes.status().values()
        return not any(each.waiting or getattr(each, "is_spilling", False) or each.fault for each in statuses)

    await until(is_through, "all is in the stream", every_s=0.01)


async def trades(url: str, instrument: Instrument = BTC) -> list[int]:
    found = await read(url, "MARKET_TRADES")
    return [row[0] for _, _, body in found if body["symbol"] == instrument.symbol for row in body["trades"]]


async def test_trades_through_a_server_that_is_killed_again_and_again(server: NatsServer, tmp_path: Path) -> None:
    chance, heard, sequence = Random(7), Heard(), 0
    async with collecting(server.url, tmp_path, heard) as outboxes:
        for _ in range(3):
            if sequence:
                server.start()
            for _ in range(chance.randrange(20, 60)):
                for _ in range(chance.randrange(100)):
                    sequence += 1
                    outboxes.put(trade(sequence))
                    outboxes.put(trade(sequence, ETH))
                await turn(chance.randrange(30))
            server.kill()
            for _ in range(2_000):
                sequence += 1
                outboxes.put(trade(sequence))
                outboxes.put(trade(sequence, ETH))
            await outboxes.flush()
        server.start()
        await through(outboxes)
    assert sequence > 6_000
    assert await trades(server.url) == list(range(1, sequence + 1))
    assert await trades(server.url, ETH) == list(range(1, sequence + 1))
    assert len(heard.stored) == 2 * sequence
    assert None in heard.spilling
    assert heard.refused == []


@contextmanager
def child(url: str, folder: Path, first: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.nats.publishing_child", url, str(folder), str(first)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def stored_up_to(process: subprocess.Popen[bytes], least: int) -> int:
    """Wait until so much is stored, and return how much is."""
    assert process.stdout is not None
    newest = 0
    while newest < least:
        newest = int(process.stdout.readline())
    return newest


def killed(process: subprocess.Popen[bytes], newest: int) -> int:
    """Kill it, and return up to what it had called stored."""
    process.kill()
    assert process.stdout is not None
    whole, _, _ = process.stdout.read().rpartition(b"\n")
    return int(whole.split()[-1]) if whole else newest


async def test_a_collector_killed_while_it_publishes_and_while_it_spills(server: NatsServer, tmp_path: Path) -> None:
    folder = tmp_path / "trades"
    with child(server.url, folder, 1) as first:
        stored = killed(first, stored_up_to(first, 5_000))
    with child(server.url, folder, stored + 1) as second:
        stored_up_to(second, stored + 2_000)
        server.kill()
        stored = killed(second, stored_up_to(second, stored + 20_000))
    server.start()
    heard = Heard()
    async with collecting(server.url, tmp_path, heard) as outboxes:
        outboxes.put(trade(stored + 1))
        await through(outboxes)
    found = await trades(server.url)
    assert list(dict.fromkeys(found)) == list(range(1, len(set(found)) + 1))
    assert len(set(found)) > stored
    assert len(found) - len(set(found)) < 10_000, "only what was not called stored comes twice, in other messages"


async def test_what_passes_goes_on_with_the_newest_and_a_whole_book(server: NatsServer, tmp_path: Path) -> None:
    heard = Heard()
    async with collecting(server.url, tmp_path, heard) as outboxes:
        outboxes.put(snapshot(1))
        outboxes.put(ticker(1))
        await through(outboxes)
        server.kill()
        for number in range(2, 400):
            outboxes.put(delta(number))
            outboxes.put(ticker(number))
        server.start()

        async def is_asked_for() -> bool:
            return bool(heard.lost)

        await until(is_asked_for, "the book is asked for", every_s=0.01)
        outboxes.put(delta(400))
        outboxes.put(snapshot(401))
        outboxes.put(delta(402))
        await through(outboxes)
    books = [body["sequence"] for _, _, body in await read(server.url, "MARKET_BOOKS")]
    assert books[0] == 1
    assert books[-2:] == [401, 402]
    assert 400 not in books
    assert [body["last_price"] for _, _, body in await read(server.url, "MARKET_STATES")][-1] == "399"


async def test_the_collector_is_found_as_a_micro_service(server: NatsServer) -> None:
    service = CollectorService("1.2.3", lambda: {"messages": 7})
    async with publishing(server.url, (), service.greet) as publisher, plain(server.url) as client:
        await usable(publisher)
        ping = json.loads((await client.request("$SRV.PING.klinenode-collector", timeout=PATIENCE_S)).data)
        info = json.loads((await client.request("$SRV.INFO.klinenode-collector", timeout=PATIENCE_S)).data)
        stats = json.loads((await client.request("$SRV.STATS.klinenode-collector", timeout=PATIENCE_S)).data)
        status = json.loads((await client.request(SUBJECT, timeout=PATIENCE_S)).data)
        assert (ping["name"], ping["version"]) == ("klinenode-collector", "1.2.3")
        assert info["endpoints"][0]["subject"] == SUBJECT
        assert stats["endpoints"][0]["data"] == {"messages": 7}
        assert status == {"messages": 7}
        server.kill()
        await faulty(publisher, "lost")
        server.start()
        await usable(publisher)
        async with plain(server.url) as other:
            again = json.loads((await other.request("$SRV.PING", timeout=PATIENCE_S)).data)
        assert again["id"] == ping["id"], "it is found again without being registered anew"
