"""kill -9 of the writer while clients read from four workers: only the writer's own clients notice."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, ShiftedClock, database_of, pause, seconds, until
from tests.system.test_process_workers import TAKEOVER_S_MAX

READERS = 12  # one connection each; the kernel spreads them over the workers
INTERVALS = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000}
BEFORE = 300  # answers before the kill
PACE_S = 0.02  # a reader's pause between requests: without it, the readers use the core that the node needs
SEED = 5


@dataclass
class Reader:
    """A bot that sends one request after another on one connection until `stop` is set, and checks the answers."""

    place: Place
    symbols: list[str]
    truths: dict[str, bytes]
    rng: random.Random
    stop: asyncio.Event
    answers: int = 0
    cut: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self) -> None:
        while not self.stop.is_set():
            limits = httpx.Limits(max_connections=1, keepalive_expiry=60)
            url = f"http://127.0.0.1:{self.place.port}"
            async with httpx.AsyncClient(
                base_url=url, limits=limits, trust_env=False, timeout=25, verify=trusting_nobody()
            ) as client:
                try:
                    while not self.stop.is_set():
                        await self._ask(client)
                        await pause(PACE_S)
                except httpx.TransportError:
                    self.cut += 1

    async def _ask(self, client: httpx.AsyncClient) -> None:
        if self.rng.random() < 0.3:
            path = self.rng.choice(list(self.truths))
            answer = await client.get(path)
            is_right = answer.status_code == 200 and answer.content == self.truths[path]
        else:
            code = self.rng.choice(list(INTERVALS))
            limit = self.rng.randint(1, 24)
            path = f"/fapi/v1/klines?symbol={self.rng.choice(self.symbols)}&interval={code}&limit={limit}"
            answer = await client.get(path)
            is_right = answer.status_code == 200 and _is_unbroken(answer.content, limit, INTERVALS[code])
        self.answers += 1
        if not is_right:
            self.wrong.append(f"{path} → {answer.status_code} {answer.content[:200]!r}")


def _is_unbroken(body: bytes, limit: int, step_ms: int) -> bool:
    opens = [row[0] for row in orjson.loads(body)]
    return len(opens) == limit and opens == list(range(opens[0], opens[0] + limit * step_ms, step_ms))


def truths_of(sandbox: SandboxServer, symbols: list[str]) -> dict[str, bytes]:
    """By path: requests for closed klines, and the exchange's own rows for them."""
    now_ms, found = sandbox.exchange.clock.now_ms(), {}
    for symbol in symbols:
        for code, step_ms in INTERVALS.items():
            end_ms = (now_ms - 3_600_000) // step_ms * step_ms
            start_ms = end_ms - 20 * step_ms
            path = f"/fapi/v1/klines?symbol={symbol}&interval={code}&startTime={start_ms}&endTime={end_ms - 1}"
            found[path] = orjson.dumps(sandbox.exchange.rows(symbol, code, start_ms, end_ms))
    return found


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_reads_go_on_while_the_writer_is_killed(tmp_path: Path, store: str) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=44), symbols=4) as sandbox, Programs(tmp_path) as programs:
        settings = {"WORKERS": "4", "BACKFILL_DAYS": "2"}
        place = Place(programs, sandbox.port, settings=settings, server_url=await database_of(store))
        place.serve()
        await until(place.is_whole, "the wish is held")
        names = {series.symbol for series in await place.ledgers()}
        symbols = sorted(name for name in names if not name.startswith("NEW"))  # listed long ago: any limit can be met
        truths, stop = truths_of(sandbox, symbols), asyncio.Event()
        readers = [Reader(place, symbols, truths, random.Random(SEED + number), stop) for number in range(READERS)]
        print(f"seed {SEED}")
        pid, _ = place.writer()
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.run())

            async def warm() -> bool:
                return sum(reader.answers for reader in readers) >= BEFORE

            await until(warm, "the load runs")
            assert sum(reader.cut for reader in readers) == 0
            mark, began_s = sandbox.journal.written, seconds()
            os.kill(pid, signal.SIGKILL)

            async def another_writes() -> bool:
                return place.writer()[0] not in (0, pid)

            await until(another_writes, "another process holds the lease", TAKEOVER_S_MAX)
            lease_s = seconds() - began_s

            async def it_listens() -> bool:
                return any(entry.kind == "connect" for entry in sandbox.journal.since(mark))

            await until(it_listens, "it listens to the exchange", TAKEOVER_S_MAX)
            socket_s = seconds() - began_s
            minute_ms = sandbox.exchange.clock.now_ms() // 60_000 * 60_000

            async def minute_is_held() -> bool:
                answer = await place.get(f"/fapi/v1/klines?symbol={symbols[0]}&interval=1m&limit=1")
                assert answer.status_code == 200, answer.text
                return bool(answer.json()[0][0] >= minute_ms)

            await until(minute_is_held, "the minute of the take-over is served")
            stop.set()
        answers, cut = sum(reader.answers for reader in readers), [reader.cut for reader in readers]
        print(
            f"MEASURED kill -9 of the writer to the lease {lease_s:.2f} s, to the socket {socket_s:.2f} s; "
            f"{answers} answers, {sum(cut)} connections cut"
        )
        assert [wrong for reader in readers for wrong in reader.wrong] == []
        assert max(cut) <= 1, "only what the killed process had under way is lost"
        assert sum(entry.kind == "connect" for entry in sandbox.journal.since(mark)) == 1, "one process listens"
        await until(place.is_whole, "there is no gap")
        assert await place.check_store(sandbox) > 4 * 2 * 1440
