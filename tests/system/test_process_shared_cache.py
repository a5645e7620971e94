"""Two nodes that share what they have read through Redis, which is killed under load: no failed request, no old row."""

import asyncio
import random
import re
from pathlib import Path
from typing import Final

import orjson

from app.domain.interval import MINUTE_MS
from app.holding.wish import CLOSE_GRACE_MS
from infra.sandbox.server import SandboxServer
from tests.redis_server import RedisServer
from tests.system.processes import Place, Programs, ShiftedClock, until
from tests.system.test_process_stream_workers import apart

CLIENTS: Final = 4
ROWS: Final = 200
WINDOWS: Final = 12  # different runs of history that clients ask for
CALM_MS: Final = (5_000, 45_000)  # of a minute
MORE: Final = 40  # requests that must be answered while Redis is away


class Load:
    """Clients that ask both nodes for runs of history, and for the newest klines, and check every answer."""

    def __init__(self, places: list[Place], sandbox: SandboxServer) -> None:
        self._places = places
        self._sandbox = sandbox
        self._end_ms = sandbox.exchange.clock.now_ms() // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
        self.answered = 0

    async def run(self, seed: int) -> None:
        chance = random.Random(seed)
        while True:
            place = chance.choice(self._places)
            if chance.random() < 0.2:
                await self._newest(place)
            else:
                await self._history(place, self._end_ms - (ROWS + 20 * chance.randrange(WINDOWS)) * MINUTE_MS)
            self.answered += 1

    async def _history(self, place: Place, start_ms: int) -> None:
        answer = await place.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={start_ms}&limit={ROWS}")
        assert answer.status_code == 200, answer.text
        assert answer.content == self._truth(start_ms, ROWS)

    async def _newest(self, place: Place) -> None:
        asked_ms = self._sandbox.exchange.clock.now_ms()
        answer = await place.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit={ROWS}")
        assert answer.status_code == 200, answer.text
        rows = orjson.loads(answer.content)
        assert len(rows) == ROWS
        assert answer.content == self._truth(rows[0][0], ROWS)
        assert rows[-1][6] + 1 >= (asked_ms - CLOSE_GRACE_MS) // MINUTE_MS * MINUTE_MS, "the newest kline that is due"

    def _truth(self, start_ms: int, rows: int) -> bytes:
        found = self._sandbox.exchange.rows("BTCUSDT", "1m", start_ms, start_ms + rows * MINUTE_MS)
        return orjson.dumps(found)

    async def more(self, number: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answered + number

        async def are_answered() -> bool:
            return self.answered >= wanted

        await until(are_answered, f"{number} requests are answered")


async def metric(place: Place, name: str) -> float:
    """The value of a metric of the shared cache."""
    found = re.search(rf"^klinenode_shared_cache_{name} (\S+)$", (await place.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def is_calm(sandbox: SandboxServer) -> bool:
    """Whether it is the middle of a minute: as a kline closes, the writer may ask the exchange for it."""
    return CALM_MS[0] < sandbox.exchange.clock.now_ms() % MINUTE_MS < CALM_MS[1]


async def live_from_exchange(place: Place, sandbox: SandboxServer) -> list[str]:
    """The requests that reach the exchange while klines in progress are asked for."""
    mark = sandbox.journal.written
    for interval in ("1m", "5m", "1h"):
        answer = await place.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval={interval}&limit=3&only_final=false")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) == 3
    asked = [entry for entry in sandbox.journal.since(mark) if entry.path == "/fapi/v1/klines"]
    return [str(entry.query) for entry in asked if "startTime" not in entry.query]


async def test_redis_is_killed_under_load_and_nobody_notices(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        settings = {
            "SYMBOLS": "BTCUSDT",
            "AUTO_SYNC_SYMBOLS": "false",
            "CACHE_URL": server.url,
            "CACHE_TTL_SEC_KLINES": "0",  # no pages: each request reads rows
        }
        async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=4) as sandbox, Programs(tmp_path) as programs:
            places = [Place(programs, sandbox.port, settings=dict(settings)) for _ in range(2)]
            programs_of = []
            for number, place in enumerate(places):
                apart(place, tmp_path / str(number))
                programs_of.append(place.serve())
                await until(place.is_whole, "the wish is held")

            async def all_share(is_sharing: bool) -> bool:
                return all([bool(await metric(place, "usable")) is is_sharing for place in places])

            async def all_hit(before: list[float]) -> bool:
                hits = [await metric(place, "hits") for place in places]
                return all(now > then for now, then in zip(hits, before, strict=True))

            load = Load(places, sandbox)
            async with asyncio.TaskGroup() as tasks:
                clients = [tasks.create_task(load.run(seed)) for seed in range(CLIENTS)]
                await until(lambda: all_hit([0, 0]), "both nodes use rows that are in Redis")
                server.kill()
                await until(lambda: all_share(False), "both nodes notice that Redis is away")
                await load.more(MORE)
                server.start()
                await until(lambda: all_share(True), "both nodes use Redis again")
                hits = [await metric(place, "hits") for place in places]
                await until(lambda: all_hit(hits), "both nodes use rows that are in Redis, again")
                await load.more(MORE)
                for client in clients:
                    client.cancel()
            await until(lambda: is_calm(sandbox), "no kline closes in these seconds")
            assert await live_from_exchange(places[1], sandbox) == [], "the node without sockets asks the writer"
            for program in programs_of:
                assert program.events("SharedCacheLost")
                assert program.events("SharedCacheAnswers")
            print(f"MEASURED {load.answered} requests of {CLIENTS} clients, none failed")
