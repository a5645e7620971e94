"""The node's klines equal the exchange's own, byte for byte, with the clock stopped."""

import asyncio
import random
from pathlib import Path
from urllib.parse import urlencode

import httpx

from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.holding.wish import CLOSE_GRACE_MS
from infra.net.tls import trusting_nobody
from tests.patience import PATIENCE_S
from tests.system.world import Watched, world

SEED = 20261121
TRIES_MAX = 3
QUESTIONS = 300


def question(rng: random.Random, symbols: list[str], now_ms: int) -> dict[str, str | int]:
    """A random klines request in one of the shapes that clients send.

    Requests for old symbols cover their last days only: for a kline of years ago the sandbox computes all its minutes.
    """
    asked: dict[str, str | int] = {"symbol": rng.choice(symbols)}
    is_young = str(asked["symbol"]).startswith("N")
    code = rng.choice([code for code, interval in INTERVALS.items() if is_young or interval.grid.step_ms <= DAY_MS])
    asked["interval"] = code
    step_ms = INTERVALS[code].grid.step_ms
    has_start = rng.random() < 0.6
    if rng.random() < 0.7 or not (is_young or has_start):
        asked["limit"] = rng.choice(
            [1, 2, 5, 99, 100, 499, 500, 1000, 1500][: None if is_young or step_ms < DAY_MS / 4 else 4]
        )
    if rng.random() < 0.2:
        asked["symbol"] = str(asked["symbol"]).lower()
    backs = [0, step_ms // 2, step_ms, 3 * step_ms, 40 * step_ms, 700 * step_ms]
    back_ms = rng.choice([*backs, now_ms] if is_young else [back for back in backs if back < 20 * DAY_MS])
    start_ms = max(0, now_ms - back_ms + rng.choice([0, 0, 1, -1, step_ms]))
    if has_start:
        asked["startTime"] = start_ms
    if rng.random() < 0.5:
        asked["endTime"] = max(0, start_ms + rng.choice([0, 1, step_ms, 10 * step_ms, 3000 * step_ms, -step_ms]))
    return asked


async def frames_have_arrived(watched: Watched, node: httpx.AsyncClient, exchange: httpx.AsyncClient) -> None:
    """With the clock stopped, wait until the frames on their way have arrived, so that live klines are equal."""
    async with asyncio.timeout(PATIENCE_S):
        for symbol in watched.node.parts.symbols.wished:
            path = f"/fapi/v1/klines?symbol={symbol}&interval=1m&limit=1"
            while (await node.get(path)).content != (await exchange.get(path)).content:
                await watched.node.parts.clock.sleep(1)


async def answered(node: httpx.AsyncClient, path: str) -> httpx.Response:
    """The node's answer; a 503 is retried, because on a busy machine this exchange may answer too late for a reader."""
    for _ in range(TRIES_MAX - 1):
        if (answer := await node.get(path)).status_code != 503:
            return answer
    return await node.get(path)


async def test_every_shape_of_question_gets_the_exchanges_own_answer(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    async with (
        world(tmp_path, symbols=8, weight_limit=1_000_000) as here,
        here.node(only_final_default=False, weight_per_minute=100_000) as watched,
    ):
        await watched.until_whole()
        while here.clock.now_ms() % MINUTE_MS < CLOSE_GRACE_MS:  # the node may lag by a kline that is not due yet
            await here.clock.sleep(1)
        now_ms = here.clock.hold()
        symbols = [*watched.node.parts.symbols.listings, "NOSUCHUSDT"]
        async with (
            watched.http() as node,
            httpx.AsyncClient(base_url=here.sandbox.base_url, verify=trusting_nobody()) as exchange,
        ):
            await frames_have_arrived(watched, node, exchange)
            for number in range(QUESTIONS):
                asked = urlencode(question(rng, symbols, now_ms))
                theirs = await exchange.get(f"/fapi/v1/klines?{asked}", timeout=PATIENCE_S)
                mine = await answered(node, f"/fapi/v1/klines?{asked}")
                context = f"seed {SEED}, question {number}: {asked}"
                assert mine.status_code == theirs.status_code, (context, mine.text[:300], theirs.text[:300])
                assert mine.content == theirs.content, context
