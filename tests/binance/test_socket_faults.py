"""Sockets that stop working silently: each kind is detected within a named time and replaced, on real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from app.domain.interval import M1, MINUTE_MS
from app.domain.series import Series
from app.events import SocketHandedOver, SocketLost
from app.kinds.klines import KLINES
from infra.binance.socket_link import CHECK_S
from infra.binance.socket_pulse import LAG_MS_MAX, LAG_S_MAX, SILENCE_GRACE_S
from infra.binance.socket_shard import COMPLAINT_GAP_S_FIRST, COMPLAINT_GAP_S_MAX, CONNECT_GAP_S, ConnectPace, Patience
from infra.binance.sockets import BinanceSockets
from infra.net.websocket import OPEN_S_MAX
from infra.sandbox.server import SandboxServer
from tests.binance.feed import Feed
from tests.binance.test_sockets import A, B, C, Run, fed, running
from tests.clocks import START_MS, VirtualClock
from tests.fast_clock import ScaledClock
from tests.net.loopback import Witness, runtime, to
from tests.patience import PATIENCE_S

SPEED = 40.0
SLACK_S = 40  # on the clock: one real second for a busy machine
BTC, ETH, XRP = (Series(KLINES, f"{name}USDT", M1) for name in ("BTC", "ETH", "XRP"))
DEAD_AFTER_S = 60 + SILENCE_GRACE_S + 2 * CHECK_S


@asynccontextmanager
async def exchange(
    *streams: Series, before: dict[str, object] | None = None
) -> AsyncIterator[tuple[SandboxServer, Run]]:
    clock = ScaledClock(START_MS, SPEED)
    async with SandboxServer(clock, seed=1, symbols=5) as sandbox:
        if before:
            sandbox.inject(**before)
        async with running(clock, sandbox.ws_url, *streams) as run:
            yield sandbox, run


async def finals_go_on(run: Run, minutes: int, *streams: Series) -> None:
    """Wait until each stream has closed each of the next `minutes` minutes."""
    start_ms = -(-run.clock.now_ms() // MINUTE_MS) * MINUTE_MS
    wanted = {(one.symbol, start_ms + number * MINUTE_MS) for one in streams for number in range(minutes)}
    await run.until(lambda: wanted <= {(one.symbol, one.kline.open_ms) for one in run.events if one.is_final})


# --- announced ---


async def test_an_announced_shutdown_is_handed_over_before_the_connection_ends() -> None:
    async with exchange(BTC, ETH, XRP) as (sandbox, run):
        await run.hear(BTC, ETH)
        sandbox.inject(kind="server_shutdown", delay_s=120)
        handed = await run.witness.wait(SocketHandedOver)
        assert handed.reason == "the exchange announced its end"
        await finals_go_on(run, 3, BTC, ETH, XRP)
        assert run.witness.of(SocketLost) == [], "ours was closed before the exchange closed it"
        assert run.connects() == 2
        assert run.witness.of(SocketHandedOver) == [handed]


async def test_no_frame_is_lost_when_the_announcement_comes() -> None:
    async with fed(A, B) as (feed, run):
        await run.hear(A, B)
        feed.send_all('{"e":"serverShutdown","E":1}')
        await run.witness.wait(SocketHandedOver)
        await run.until(lambda: run.connects() == 2 and len(feed.streams) == 1)
        await run.hear(A, B)
        for series in (A, B):
            numbers = [event.kline.trades for event in run.events if event.symbol == series.symbol]
            assert set(numbers) >= set(range(min(numbers), max(numbers) + 1)), "no frame is missing"


async def test_an_end_that_comes_too_soon_after_its_announcement_is_a_loss_like_any_other() -> None:
    async with exchange(BTC) as (sandbox, run):
        await run.hear(BTC)
        sandbox.inject(kind="server_shutdown", delay_s=0)
        await run.witness.wait(SocketHandedOver)
        await finals_go_on(run, 2, BTC)


# --- silent ---


async def test_a_half_open_socket_is_replaced() -> None:
    async with exchange(BTC, ETH) as (sandbox, run):
        await run.hear(BTC, ETH)
        sandbox.inject(kind="half_open")
        began_ms = run.clock.now_ms()
        lost = await run.witness.wait(SocketLost)
        assert lost.reason == "no frame of 2 streams for 75 s"
        assert run.clock.now_ms() - began_ms <= (DEAD_AFTER_S + SLACK_S) * 1_000
        await finals_go_on(run, 2, BTC, ETH)


async def test_a_handshake_that_is_never_answered_is_given_up() -> None:
    async with exchange(BTC, before={"kind": "handshake_hang", "count": 2}) as (_, run):
        began_ms = run.clock.now_ms()
        assert (await run.witness.wait(SocketLost)).reason == f"no handshake within {OPEN_S_MAX:.0f} s"
        assert run.clock.now_ms() - began_ms <= (OPEN_S_MAX + CONNECT_GAP_S + SLACK_S) * 1_000
        await run.hear(BTC)
        assert len(run.witness.of(SocketLost)) == 2


async def test_an_acknowledged_socket_on_the_wrong_route_is_replaced() -> None:
    async with exchange(BTC, before={"kind": "wrong_route", "count": 1}) as (_, run):
        began_ms = run.clock.now_ms()
        assert (await run.witness.wait(SocketLost)).reason == "no frame of 1 streams for 75 s"
        assert run.clock.now_ms() - began_ms <= (DEAD_AFTER_S + SLACK_S) * 1_000
        await finals_go_on(run, 2, BTC)


async def test_a_handover_to_a_half_open_peer_keeps_the_old_socket() -> None:
    async with exchange(BTC) as (sandbox, run):
        await run.hear(BTC)
        sandbox.inject(kind="handshake_hang", count=2)
        sandbox.inject(kind="server_shutdown", delay_s=600)
        await run.witness.wait(SocketLost, 2)
        await run.hear(BTC)
        await finals_go_on(run, 2, BTC)
        assert {lost.reason for lost in run.witness.of(SocketLost)} == {f"no handshake within {OPEN_S_MAX:.0f} s"}


# --- slow ---


async def test_a_slow_socket_is_handed_over() -> None:
    async with exchange(BTC, ETH) as (sandbox, run):
        await run.hear(BTC, ETH)
        sandbox.inject(kind="slow_socket", delay_s=60)
        handed = await run.witness.wait(SocketHandedOver)
        sockets = run.sockets.status()["sockets"]
        assert isinstance(sockets, dict)
        assert [socket["connects"] for socket in sockets.values()] == [1], "the new one is not open yet"
        assert handed.reason == f"every frame came more than {LAG_MS_MAX // 1000} s late for {LAG_S_MAX} s"
        await finals_go_on(run, 2, BTC, ETH)
        assert run.witness.of(SocketLost) == []
        newest = run.events[-1]
        assert run.clock.now_ms() - newest.event_ms < LAG_MS_MAX


async def test_a_socket_that_is_a_little_slow_is_kept() -> None:
    async with exchange(BTC, ETH) as (sandbox, run):
        await run.hear(BTC, ETH)
        sandbox.inject(kind="slow_socket", delay_s=4)
        await finals_go_on(run, 3, BTC, ETH)
        assert run.witness.of(SocketHandedOver) == []
        assert run.connects() == 1


def test_hand_overs_that_do_not_help_become_rare() -> None:
    patience, now_ms, given = Patience(), START_MS, []
    for _ in range(4 * 24 * 60):
        if patience.gives_way(now_ms):
            given.append(now_ms)
        now_ms += MINUTE_MS
    gaps_s = [(later - earlier) / 1_000 for earlier, later in pairwise(given)]
    assert gaps_s[:3] == [COMPLAINT_GAP_S_FIRST, 2 * COMPLAINT_GAP_S_FIRST, 4 * COMPLAINT_GAP_S_FIRST]
    assert gaps_s[-1] == COMPLAINT_GAP_S_MAX
    assert patience.gives_way(now_ms + int(3 * COMPLAINT_GAP_S_MAX * 1_000))
    assert patience.gives_way(now_ms + int((3 * COMPLAINT_GAP_S_MAX + COMPLAINT_GAP_S_FIRST) * 1_000) + 300_000)


def test_a_clock_that_is_put_back_does_not_keep_sockets_from_connecting() -> None:
    clock = VirtualClock()

    async def connect_again_and_again() -> list[int]:
        pace, moments = ConnectPace(clock), []
        for _ in range(5):
            await pace.wait()
            moments.append(clock.time_ms)
        clock.time_ms -= 7 * MINUTE_MS
        put_back_ms = clock.time_ms
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(pace.wait())
        assert clock.time_ms - put_back_ms == 4_000
        return moments

    moments = clock.run(connect_again_and_again())
    assert [later - earlier for earlier, later in pairwise(moments)] == [1_000] * 4


# --- one stream among others ---


async def test_a_deaf_stream_that_rest_has_klines_of_is_carried_by_another_socket() -> None:
    def mute(feed: Feed) -> None:
        feed.mute.add("ausdt@kline_1m")

    many = [Series(KLINES, f"S{number}USDT", M1) for number in range(9)]
    async with fed(A, *many, speed=240, before=mute) as (feed, run):
        while not run.witness.of(SocketHandedOver):
            await run.hear(many[0])
            run.sockets.exists(A, run.clock.now_ms() // MINUTE_MS * MINUTE_MS)
        handed = run.witness.of(SocketHandedOver)[0]
        assert handed.reason.startswith("AUSDT 1m stays silent for ")
        assert ("UNSUBSCRIBE", ["ausdt@kline_1m"]) in feed.messages, "that was tried first"
        assert run.witness.of(SocketLost) == []


async def test_a_stream_that_is_silent_because_nothing_trades_costs_no_socket() -> None:
    async with fed(A, B, C, *(Series(KLINES, f"S{number}USDT", M1) for number in range(9)), speed=240) as (feed, run):
        await run.hear(A, B, C)
        feed.mute.add("ausdt@kline_1m")
        until_ms = run.clock.now_ms() + 12 * MINUTE_MS
        while run.clock.now_ms() < until_ms:
            await run.hear(B)
        assert run.witness.of(SocketHandedOver) == []
        assert run.connects() == 1


# --- a slow node ---


async def test_a_consumer_that_sleeps_for_minutes_costs_no_socket_and_no_frame() -> None:
    clock = ScaledClock(START_MS, SPEED)
    async with SandboxServer(clock, seed=1, symbols=5) as sandbox:
        witness = Witness()
        sockets = BinanceSockets(to(sandbox.ws_url), runtime(clock, witness), queue_max=3)
        sockets.want([BTC, ETH])
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(sockets.run())
            async with asyncio.timeout(PATIENCE_S):
                while sockets.status()["queue_waits"] == 0:
                    await clock.sleep(1)
            start_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
            await clock.sleep(4 * 60)
            assert witness.of(SocketLost) == []
            wanted = {
                (one.symbol, each)
                for one in (BTC, ETH)
                for each in range(start_ms, start_ms + 6 * MINUTE_MS, MINUTE_MS)
            }
            async with asyncio.timeout(PATIENCE_S):
                async for event in sockets.events():
                    if event.is_final:
                        wanted.discard((event.symbol, event.kline.open_ms))
                    if not wanted:
                        break
            assert witness.of(SocketLost) == []
            assert witness.of(SocketHandedOver) == []
            working.cancel()
