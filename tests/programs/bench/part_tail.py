"""Part 2: answers from the tail without a cached page: one after another, and all at once after a close."""

import asyncio
import random
from typing import Final
from urllib.parse import quote

import httpx

from app.domain.interval import MINUTE_MS
from infra.net.tls import trusting_nobody
from tests.programs.bench.figures import Curve, Figure, alternating
from tests.programs.bench.load import Load, Outcome, apply
from tests.programs.bench.part_http import add_rates, answer_of
from tests.programs.bench.raw import reply_file
from tests.programs.bench.stage import NOW_MS, Measured, Stage
from tests.system.processes import until

PART: Final = "tail"
LIMITS: Final = range(400, 601)  # 500 on average
HERD_CONNECTIONS: Final = 50
HERD_LIMIT: Final = 500
AFTER_CLOSE_MS: Final = 2_100  # by when every closing frame has been sent (infra/sandbox/feeds.py)
WARM_AT_ONCE: Final = 8


def path_of(symbol: str, limit: int) -> str:
    """The request for the newest `limit` minutes."""
    return f"/fapi/v1/klines?symbol={quote(symbol)}&interval=1m&limit={limit}"


async def warm(stage: Stage) -> None:
    """Fill every tail, as in a node that has run for a while."""
    slots = asyncio.Semaphore(WARM_AT_ONCE)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stage.place.port}", trust_env=False, verify=trusting_nobody()
    ) as client:

        async def fill(symbol: str) -> None:
            async with slots:
                (await client.get(path_of(symbol, 1500), timeout=60)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for symbol in stage.market.names:
                tasks.create_task(fill(symbol))


async def measure(stage: Stage) -> None:
    """Measure requests that all differ, then the same 600 requests from all clients in the second after a close."""
    await warm(stage)
    rng = random.Random(1)
    paths = [path_of(symbol, limit) for symbol in stage.market.names for limit in LIMITS]
    status, stated, body = await answer_of(stage.place.port, path_of("ETHUSDT", 500), {})
    raw, port = await stage.raw("fixed", reply_file(stage.run.folder / "reply.json", status, stated, body))
    before = stage.reads.count

    async def ours() -> Measured:
        rng.shuffle(paths)  # a new order each round, so that pages cached by one round do not serve the next
        return await stage.measure(stage.node, stage.place.port, paths)

    async def limit() -> Measured:
        return await stage.measure(raw, port, paths)

    hits = await cached_answers(stage)
    pairs = await alternating(stage.run.size.rounds, ours, limit)
    asked = sum(mine.outcome.requests for mine, _ in pairs)
    note = f"{stage.reads.count - before} database reads and {await cached_answers(stage) - hits} hits in {asked:,}"
    add_rates(stage, PART, "unique, 400–600 rows", pairs, 0.45, limit_name="raw ASGI", note=note)
    raw.kill()
    await herds(stage)


async def herds(stage: Stage) -> None:
    """Close a minute, and have 50 connections request 500 rows of every symbol at once."""
    totals, outcomes, reads = [], [], 0
    for number in range(1, stage.run.size.rounds + 1):
        closes_ms = NOW_MS // MINUTE_MS * MINUTE_MS + number * MINUTE_MS
        await close_minute(stage, closes_ms)
        before = stage.reads.count
        load = Load(
            stage.place.port,
            [path_of(symbol, HERD_LIMIT) for symbol in stage.market.names],
            HERD_CONNECTIONS,
            None,
        )
        outcome = await apply(load, stage.run.folder)
        assert outcome.failed == 0, f"{outcome.failed} of the herd got errors"
        reads += stage.reads.count - before
        outcomes.append(outcome)
        totals.append(outcome.seconds)
    typical = sorted(outcomes, key=_seconds)[len(outcomes) // 2]
    size = f"{typical.requests} symbols × {HERD_LIMIT} rows from {HERD_CONNECTIONS} connections"
    add = stage.run.figures.append
    add(Figure(PART, "herd, until the last answer", "ms", typical.seconds * 1000, note=size, rounds=totals))
    add(Figure(PART, "herd p50", "ms", typical.quantile_ms(0.5)))
    add(Figure(PART, "herd p99", "ms", typical.quantile_ms(0.99)))
    add(Figure(PART, "herd's database reads", "count", reads, floor=0, is_cost=True, note="of all rounds"))
    stage.run.curves.append(Curve("tail: herd after a close", "klinenode", typical.ms))


async def close_minute(stage: Stage, closes_ms: int) -> None:
    """End a minute, so that the exchange sends the closing frames; return when the node serves all of them."""
    stage.clock.set(closes_ms + AFTER_CLOSE_MS)
    newest_ms = closes_ms - MINUTE_MS
    async with stage.place.http() as client:

        async def is_here(symbol: str) -> bool:
            answer = await client.get(path_of(symbol, 1))
            return answer.status_code == 200 and answer.json()[0][0] >= newest_ms

        for symbol in stage.market.names:
            await until(lambda symbol=symbol: is_here(symbol), f"{symbol} has closed")  # type: ignore[misc]


async def cached_answers(stage: Stage) -> int:
    """The node's counter of page cache hits."""
    text = (await stage.place.get("/metrics")).text
    line = next(line for line in text.splitlines() if line.startswith("klinenode_page_cache_hits"))
    return int(float(line.split()[1]))


def _seconds(outcome: Outcome) -> float:
    return outcome.seconds
