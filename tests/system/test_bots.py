"""Fifty bots that start at once cost, through the node, as much as one; without it the address is banned."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from starlette.types import ASGIApp

from app.events import Event, RequestDone
from app.holding.wish import CLOSE_GRACE_MS
from infra.process.clock import SystemClock
from infra.sandbox.journal import Entry
from infra.sandbox.server import SandboxServer
from tests.http.asgi import get
from tests.patience import PATIENCE_S
from tests.system.world import Watched, World, world

BOTS: Final = 50
SYMBOLS: Final = 60
INTERVALS: Final = ("1m", "3m", "5m")
ROWS: Final = 99  # the most rows that cost weight 1: even with the cheapest start-up, fifty bots are banned
WEIGHT_OF_ONE: Final = SYMBOLS * len(INTERVALS) + 1  # its klines, and one request for the markets
WEIGHT_LIMIT: Final = 20_000  # a minute, with the node: the test does not measure its cold start
MINUTE_MS: Final = 60_000
FIRST_MS: Final = 10_000  # of a minute: by then the minute before is due
LATER_MS: Final = (
    40_000  # start of the second half of the bots: no page of the first half is cached (CACHE_TTL_SEC_KLINES) any more
)
SPEED: Final = 5.0  # a plan of all series must end within a minute of this clock, also on a slow machine
PAUSE_S: Final = 0.25  # real seconds before a patient bot repeats a request that was refused
_real: Final = SystemClock()


class Bot:
    """Load the markets, then the klines of the first 60 symbols, one request after the other, as ccxt does.

    A patient bot repeats a request after 503. Others go on to their next request, as bots do, until they are banned.
    """

    def __init__(self, app: ASGIApp, *, patient: bool) -> None:
        self._app = app
        self._patient = patient
        self.statuses: list[int] = []
        self.answers: dict[tuple[str, str], bytes] = {}

    async def start(self) -> None:
        """Send all requests and record the answers."""
        markets = orjson.loads(await self.get("/fapi/v1/exchangeInfo", "") or b'{"symbols":[]}')["symbols"]
        names = [each["symbol"] for each in markets if is_wanted(each)][:SYMBOLS]
        for interval in INTERVALS:
            for name in names:
                query = f"symbol={name}&interval={interval}&limit={ROWS}"
                self.answers[name, interval] = await self.get("/fapi/v1/klines", query)
                if self.statuses[-1] == 418:
                    return

    async def get(self, path: str, query: str) -> bytes:
        """The body of the answer with status 200; b"" if there was none."""
        while True:  # `start_all` limits the time
            await _real.sleep(0)  # lets the other bots run, as a network would
            status, body = await get(self._app, path, query.encode())
            self.statuses.append(status)
            if status == 200:
                return body
            if not self._patient:
                return b""
            assert status == 503, body
            await _real.sleep(PAUSE_S)


def is_wanted(market: dict[str, Any]) -> bool:
    """Whether a market is a USDT perpetual of an old symbol that trades."""
    kind = (market["contractType"], market["quoteAsset"], market["status"])
    return kind == ("PERPETUAL", "USDT", "TRADING") and not market["symbol"].startswith("NEW")


async def start_all(bots: list[Bot]) -> None:
    """Start all bots at once and wait until they are done."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for bot in bots:
            group.create_task(bot.start())


async def through_the_node(
    folder: Path, bots: int, *, wished: list[str] | None = None
) -> tuple[list[Entry], int, list[Bot], Callable[[str, str], bytes]]:
    """Run `bots` against a node that holds its wish, by default all symbols.

    Return the klines requests that the bots caused at the exchange, the number of those that the node gave up (an
    answer can take longer than ten seconds on a busy machine), the bots, and the exchange's answers.
    """
    wish: dict[str, Any] = {} if wished is None else {"symbols": wished, "auto_sync_symbols": False}
    async with (
        world(folder, speed=SPEED, symbols=SYMBOLS, weight_limit=WEIGHT_LIMIT) as here,
        here.node(intervals=list(INTERVALS), backfill_days=1, weight_per_minute=WEIGHT_LIMIT, **wish) as watched,
    ):
        # from here on, only the bots and the list of symbols cause requests
        now_ms = await here.hold_whole(watched, if_=lambda: is_quiet(here, watched))
        if wished is not None:
            here.clock.move_to(now_ms - now_ms % MINUTE_MS + MINUTE_MS + FIRST_MS)
        before, seen = here.sandbox.journal.written, len(watched.events)
        started = [Bot(watched.node.app, patient=True) for _ in range(bots)]
        await start_all(started[::2])
        if wished is not None:
            here.clock.move_to(here.clock.now_ms() + LATER_MS)
        await start_all(started[1::2])
        asked = [each for each in here.sandbox.journal.since(before) if each.path == "/fapi/v1/klines"]
        asked = [each for each in asked if each.query["symbol"] not in (wished or ())]
        return asked, sum(map(is_given_up, watched.events[seen:])), started, truth_of(here.sandbox)


def is_given_up(event: Event) -> bool:
    """Whether a klines request of the node got no answer."""
    return isinstance(event, RequestDone) and (event.path, event.status) == ("/fapi/v1/klines", 0)


def is_quiet(here: World, watched: Watched) -> bool:
    """Whether the node has nothing to fetch and no close is near, at which two different answers are right."""
    is_far = CLOSE_GRACE_MS < here.clock.now_ms() % MINUTE_MS < MINUTE_MS - FIRST_MS
    return is_far and watched.node.writer is not None and watched.node.writer.reconciler.is_idle()


def truth_of(sandbox: SandboxServer) -> Callable[[str, str], bytes]:
    """The exchange's own answer to a bot's request: closed klines only, as is the node's default."""
    exchange = sandbox.exchange
    now_ms = exchange.clock.now_ms()

    def truth(name: str, interval: str) -> bytes:
        item = exchange.universe.find(name, now_ms)
        assert item is not None, name
        return orjson.dumps(exchange.window(item, interval, None, None, ROWS + 1, now_ms)[:-1])

    return truth


@pytest.mark.parametrize(("wished", "of_one"), [(None, 0), (["BTCUSDT"], (SYMBOLS - 1) * len(INTERVALS))])
async def test_fifty_bots_cost_what_one_costs(tmp_path: Path, wished: list[str] | None, of_one: int) -> None:
    requests: dict[int, int] = {}
    for bots in (1, BOTS):
        folder = tmp_path / str(bots)
        folder.mkdir()
        asked, given_up, started, truth = await through_the_node(folder, bots, wished=wished)
        requests[bots] = len(asked) - given_up
        repeated = Counter((each.query["symbol"], each.query["interval"]) for each in asked).most_common(5)
        print(f"{bots} bots: {len(asked)} requests, {given_up} given up, most for {repeated}")
        assert sum(each.weight for each in asked) == len(asked)
        assert len(started[0].answers) == SYMBOLS * len(INTERVALS)
        for question, body in started[0].answers.items():
            assert all(bot.answers[question] == body for bot in started), question
            assert body == truth(*question), question
    assert requests[BOTS] == requests[1] == of_one


@pytest.mark.parametrize("bots", [1, BOTS])
async def test_without_the_node_one_bot_is_served_and_fifty_are_banned(tmp_path: Path, bots: int) -> None:
    async with world(tmp_path, symbols=SYMBOLS) as here:
        here.clock.hold()
        started = [Bot(here.sandbox.app, patient=False) for _ in range(bots)]
        await start_all(started)
        status = here.sandbox.limiter
        assert (status.bans > 0) == (bots > 1)
        assert (status.answers_418 > 0) == (bots > 1)
        assert all((418 in bot.statuses) == (bots > 1) for bot in started)
        if bots == 1:
            assert status.weight_total == WEIGHT_OF_ONE
