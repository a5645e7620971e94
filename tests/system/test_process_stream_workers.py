"""Sockets of several processes on one database: one upstream subscription, and clients that survive the writer."""

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, until
from tests.system.test_process_streams import subscriptions

CLIENTS = 12  # spread by chance over both instances and their workers
NAMES = ("btcusdt@kline_1m", "ethusdt@kline_1m", "ethusdt@kline_15m")


class Ear:
    """A client that counts the messages of each stream."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.count: Counter[str] = Counter()
        self.is_lost = False

    async def run(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.connection:
                self.count[json.loads(message)["stream"]] += 1
        self.is_lost = True


async def all_hear(ears: list[Ear]) -> None:
    """Wait until every client has received something new on every stream."""
    before = [Counter(ear.count) for ear in ears]

    async def heard() -> bool:
        return all(ear.count[name] > was[name] for ear, was in zip(ears, before, strict=True) for name in NAMES)

    await until(heard, "every client hears every stream")


def apart(place: Place, folder: Path) -> None:
    """Let a node share nothing but the database with the others, as on a host of its own."""
    place.settings |= {
        "RUNTIME_DIR": str(folder),
        "NODE_URL": f"http://127.0.0.1:{place.port}",
        "CLUSTER_TOKEN": "a token of all nodes",
    }


@pytest.mark.parametrize("are_apart", [False, True], ids=["one host", "two hosts"])
async def test_clients_of_all_processes_share_one_subscription_and_outlive_the_writer(
    tmp_path: Path, *, are_apart: bool
) -> None:
    settings = {"SYMBOLS": "BTCUSDT", "AUTO_SYNC_SYMBOLS": "false"}
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=4) as sandbox, Programs(tmp_path) as programs:
        first = Place(programs, sandbox.port, settings={**settings, "WORKERS": "2"})
        second = Place(programs, sandbox.port, settings=dict(settings))
        if are_apart:
            apart(first, tmp_path / "first")
            apart(second, tmp_path / "second")
        first.serve()
        await until(first.is_whole, "the wish is held")
        second.serve()
        await until(second.is_up, "the second instance answers")
        for path in ("/fapi/v1/ticker/24hr?symbol=BTCUSDT", "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=5"):
            assert (await second.get(path)).status_code == 200, "the writer is asked for it"
        path = f"/stream?streams={'/'.join(NAMES)}"
        ears = [
            Ear(await connect(f"ws://127.0.0.1:{(first, second)[number % 2].port}{path}", proxy=None))
            for number in range(CLIENTS)
        ]
        async with asyncio.TaskGroup() as tasks:
            listening = [tasks.create_task(ear.run()) for ear in ears]
            await all_hear(ears)
            assert Counter({name: subscriptions(sandbox)[name] for name in NAMES}) == Counter(NAMES), "each once"

            pid, _ = first.writer()
            mark = sandbox.journal.written
            os.kill(pid, signal.SIGKILL)

            async def another_writes() -> bool:
                return first.writer()[0] not in (0, pid)

            await until(another_writes, "another process has taken over")
            survivors = [ear for ear in ears if not ear.is_lost]
            assert len(survivors) >= CLIENTS // 2, "the second instance's clients stay connected"
            await all_hear(survivors)
            said = [json.loads(entry.detail) for entry in sandbox.journal.since(mark) if entry.kind == "message"]
            again = Counter(name for message in said if message["method"] == "SUBSCRIBE" for name in message["params"])
            assert Counter({name: again[name] for name in NAMES}) == Counter(NAMES), "once by the new writer"
            for ear in ears:
                await ear.connection.close()
            for task in listening:
                await task
