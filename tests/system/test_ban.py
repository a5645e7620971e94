"""The ban firewall: whatever other programs on the address and the exchange do, the node causes and prolongs no ban."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.series import Series
from app.events import Event, FramesReceived, RequestDone, RowsCommitted, StandDownBegan
from app.kinds.klines import KLINES
from app.ports.exchange import Priority
from infra.binance.budget import IN_FLIGHT_MAX, SHARES
from infra.sandbox.server import SandboxServer
from infra.sqlite.library import sqlite3
from tests.patience import PATIENCE_S
from tests.system.world import START_MS, HeldClock, Watched, World, world

BAN_S = 7_200
LOOKS = 12  # times that the answers are checked during the ban
SLOW, FAST = 20, 900  # times the machine's speed
LIMIT = 2_400
IP = "127.0.0.1"
SMALL_LIMIT = 1_200  # so that a backfill of ten days surely lasts longer than a minute
UNDER_WAY = IN_FLIGHT_MAX * 10  # the most weight that requests in flight can have
BTC = Series(KLINES, "BTCUSDT", M1)


class GearedClock(HeldClock):
    """A fast clock whose speed can be changed, so that two hours pass faster than the time before them."""

    def gear(self, speed: float) -> None:
        self.set_speed(speed)

    async def until(self, time_ms: int) -> None:
        """Run fast until `time_ms`, then slowly, so that a slow machine too has time for what is checked afterwards."""
        self.gear(FAST)
        while self.now_ms() < time_ms:
            await self.sleep((time_ms - self.now_ms()) / 1_000)
        self.gear(SLOW)


def is_klines(event: Event) -> bool:
    return isinstance(event, RequestDone) and event.path == "/fapi/v1/klines" and event.status == 200


def is_kept(event: Event) -> bool:
    return isinstance(event, RowsCommitted) and (event.symbol, event.interval) == ("BTCUSDT", "1m") and event.rows > 0


def is_ban(event: Event) -> bool:
    return isinstance(event, StandDownBegan)


def forget_file(folder: Path) -> None:
    (folder / "klinenode.db.weight").unlink()


def forget_row(folder: Path) -> None:
    database = sqlite3.connect(folder / "klinenode.db")
    assert database.execute("DELETE FROM stand_down").rowcount == 1
    database.commit()
    database.close()


async def check_silent(here: World, mark: int) -> None:
    asked = [entry for entry in here.sandbox.journal.since(mark) if entry.kind == "rest"]
    assert asked == [], "requests left during the ban"


async def check_served(here: World, watched: Watched, start_ms: int, end_ms: int) -> None:
    path = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500&startTime={start_ms}&endTime={end_ms - 1}"
    async with watched.http() as client:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.content == here.truth(BTC, start_ms, end_ms)
        health = (await client.get("/v1/health")).json()
        assert any("418" in reason for reason in health["reasons"])
        unheld = await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5&startTime=0")
        assert unheld.status_code == 503


def under_way(watched: Watched) -> int:
    return watched.node.parts.upstream.rate_state.look(lambda state: state.requests)


async def drawn(here: World, watched: Watched, **said: bool) -> int:
    """Let the exchange ban the node during the backfill; return the stand-down's end (ms) after the last answer."""
    while not watched.node.parts.holdings.ledger(BTC).held:
        await watched.until(is_kept)
    earliest_ms = here.clock.now_ms() + BAN_S * 1_000
    here.sandbox.inject(kind="http_418", path="/fapi/v1/klines", ban_s=BAN_S, count=1, **said)
    await watched.until(is_ban)
    async with asyncio.timeout(PATIENCE_S):
        while under_way(watched):
            await here.clock.sleep(1)
    assert watched.node.parts.coverage.report(None, None, 0, 1)["missing"], "the backfill is not over yet"
    until_ms = watched.node.parts.guard.until_ms
    assert earliest_ms <= until_ms <= here.clock.now_ms() + BAN_S * 1_000
    return until_ms


@pytest.mark.parametrize(
    ("said", "forget"),
    [({"retry_after": False}, forget_file), ({"banned_until": False}, forget_row)],
    ids=["no-retry-after-no-file", "no-banned-until-no-row"],
)
async def test_a_ban_of_two_hours_in_a_cold_backfill_with_a_restart_in_the_middle(
    tmp_path: Path, said: dict[str, bool], forget: Callable[[Path], None]
) -> None:
    clock = GearedClock(START_MS, SLOW)
    async with SandboxServer(clock, seed=1, symbols=3) as sandbox:
        here = World(clock, sandbox, tmp_path)
        async with here.node() as watched:
            until_ms = await drawn(here, watched, **said)
            began_ms, mark = clock.now_ms(), sandbox.journal.written
            held = max(watched.node.parts.holdings.ledger(BTC).held, key=lambda span: span.end_ms - span.start_ms)
            window = (max(held.start_ms, held.end_ms - 400 * MINUTE_MS), held.end_ms)
            for look in range(1, LOOKS // 2):
                await clock.until(began_ms + look * BAN_S * 1_000 // LOOKS)
                await check_served(here, watched, *window)
            assert watched.count(FramesReceived), "sockets stay up"
            await check_silent(here, mark)
        forget(tmp_path)
        async with here.node() as again:
            active = again.node.parts.guard.active()
            assert active is not None
            assert active.until_ms == until_ms
            for look in range(LOOKS // 2, LOOKS):
                await clock.until(began_ms + look * BAN_S * 1_000 // LOOKS)
                await check_served(here, again, *window)
            assert again.count(FramesReceived), "sockets are opened"
            await clock.until(until_ms - 300_000)
            await check_silent(here, mark)
            await here.hold_whole(again)
            assert await here.differing(again) == []
    after = [entry for entry in sandbox.journal.since(mark) if entry.kind == "rest"]
    assert after
    assert {entry.status for entry in after} == {200}
    assert after[0].time_ms >= until_ms - 1_000
    assert (sandbox.limiter.bans, sandbox.limiter.answers_429) == (1, 0)
    assert sandbox.limiter.used_weight_max <= LIMIT * SHARES[Priority.USER]


async def test_nodes_that_start_after_days_down_stay_within_the_share_together(tmp_path: Path) -> None:
    limit = 100
    async with world(tmp_path, speed=20, symbols=16) as here, here.node(backfill_days=1) as watched:
        await watched.until_whole()
    later_ms = START_MS + 3 * DAY_MS
    async with (
        world(tmp_path, speed=20, symbols=16, weight_limit=limit, start_ms=later_ms) as here,
        AsyncExitStack() as stack,
    ):
        changes = {"weight_per_minute": limit, "backfill_days": 1}
        nodes = [await stack.enter_async_context(here.node(machine_clock=None, **changes)) for _ in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for number, reader in enumerate(nodes[1:]):
                tasks.create_task(ask_unheld(reader, later_ms - (60 + number) * DAY_MS))
        await here.hold_whole(nodes[0])
        assert await here.differing(nodes[0]) == []
    asked = [entry for entry in here.sandbox.journal.since(0) if entry.kind == "rest"]
    weights = Counter[int]()
    for entry in asked:
        weights[entry.time_ms // MINUTE_MS] += entry.weight
    assert max(weights.values()) <= limit * SHARES[Priority.USER]
    assert here.sandbox.limiter.answers_429 == 0
    assert sum(weights.values()) > limit, "there was more to ask for than one minute allows"


async def ask_unheld(watched: Watched, start_ms: int) -> httpx.Response:
    path = (
        f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=50&startTime={start_ms}&endTime={start_ms + 49 * MINUTE_MS}"
    )
    async with watched.http() as client:
        return await client.get(path)


class Neighbour:
    """Another program on the same address that takes part of the limit at once, at some second of each minute.

    It leaves room for the node's requests in flight, which cannot be recalled, until the node has seen its share.
    """

    def __init__(self, here: World, shares: list[float]) -> None:
        self._here = here
        self._shares = shares
        self.took: list[int] = []

    async def run(self, watched: Watched) -> list[int]:
        """Take each share in a new minute, then request klines that are not held; return the answers' statuses."""
        clock, statuses = self._here.clock, []
        for number, share in enumerate(self._shares):
            minute_ms = (clock.now_ms() // MINUTE_MS + 1) * MINUTE_MS
            while clock.now_ms() < minute_ms + number * 700:
                await clock.sleep(0.1)
            wanted = int(SMALL_LIMIT * share)
            self.took.append(self._take(min(wanted, SMALL_LIMIT - UNDER_WAY - self._used())))
            while clock.now_ms() < minute_ms + 15_000 and not self._is_seen(watched, minute_ms // MINUTE_MS):
                await clock.sleep(0.1)
            if self._is_seen(watched, minute_ms // MINUTE_MS):
                self.took[-1] += self._take(wanted - self._used())
            while clock.now_ms() < minute_ms + 20_000:
                await clock.sleep(1)
            statuses.append((await self._answered(watched, START_MS - (60 + number) * DAY_MS)).status_code)
        return statuses

    async def _answered(self, watched: Watched, start_ms: int) -> httpx.Response:
        """The answer for a user who repeats a refused request after Retry-After."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await ask_unheld(watched, start_ms)).status_code == 503:
                await self._here.clock.sleep(int(answer.headers["Retry-After"]))
        return answer

    def _used(self) -> int:
        return self._here.sandbox.limiter.used(IP, self._here.clock.now_ms())

    def _take(self, weight: int) -> int:
        taken = max(0, weight)
        answer = self._here.sandbox.limiter.admit(IP, taken, self._here.clock.now_ms())
        assert answer.status == 200, "the neighbour itself stays within the limit"
        return taken

    def _is_seen(self, watched: Watched, minute: int) -> bool:
        """Whether the node knows the neighbour's share from an answer, and has no request in flight."""
        look = watched.node.parts.upstream.rate_state.look
        return look(lambda state: not state.requests and state.used(minute) >= self._used())


async def test_a_neighbour_that_takes_most_of_every_minute_makes_us_yield_and_never_draw_a_429(tmp_path: Path) -> None:
    shares = [0.90, 0.60, 0.75, 0.80, 0.99, 0.60]
    async with (
        world(tmp_path, speed=20, symbols=20, weight_limit=SMALL_LIMIT) as here,
        here.node(backfill_days=10, weight_per_minute=SMALL_LIMIT) as watched,
    ):
        here.sandbox.inject(
            kind="archive_404"
        )  # the backfill uses REST only, and lasts as long as the neighbour takes shares
        neighbour = Neighbour(here, shares)
        async with asyncio.TaskGroup() as tasks:
            statuses = tasks.create_task(neighbour.run(watched))
            await watched.until(is_klines)
        assert statuses.result() == [200] * len(shares), (
            "users get their answers, if need be from the next minute's room"
        )
        assert len(neighbour.took) == len(shares)
        await watched.until_whole()
    asked = [entry for entry in here.sandbox.journal.since(0) if entry.kind == "rest"]
    assert {entry.status for entry in asked} == {200}
    assert here.sandbox.limiter.answers_429 == 0
    users = {str(START_MS - (60 + number) * DAY_MS) for number in range(len(shares))}
    crowded = Counter(
        entry.time_ms // MINUTE_MS
        for entry in asked
        if entry.used_weight_1m > SMALL_LIMIT * SHARES[Priority.TAIL] and entry.query.get("startTime") not in users
    )
    assert crowded, "the neighbour came in our way"
    had_left = int(IN_FLIGHT_MAX * SHARES[Priority.TAIL])
    assert max(crowded.values()) <= had_left, "what is not for a user left although the minute was nearly full"
