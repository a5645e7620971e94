import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from app.binance.stream_event import KlineEvent
from app.domain.interval import INTERVALS, M1
from app.domain.series import Series
from app.events import FramesReceived, GarbageDropped, SocketLost, SocketOpened
from app.kinds.klines import KLINES
from app.outbound import DIRECT, Egress, proxy_of
from app.ports.clock import Clock
from infra.binance.socket_intake import GARBAGE_EVENTS_MAX
from infra.binance.sockets import STREAMS_MAX, BinanceSockets
from infra.sandbox.faults import Fault
from infra.sandbox.server import SandboxServer
from tests.binance.feed import Feed, feeding
from tests.clocks import START_MS
from tests.fast_clock import ScaledClock
from tests.net.loopback import Witness, proxy, runtime, to
from tests.patience import PATIENCE_S

SPEED = 50.0
BEYOND_THE_CALENDAR = (
    '{"stream":"x","data":{"e":"kline","E":1,"s":"A","k":{"t":1000000000000000000,"T":1,"s":"A","i":"1M","n":1,'
    '"x":true,"o":"1","h":"1","l":"1","c":"1","v":"1","q":"1","V":"1","Q":"1"}}}'
)
A, B, C, D = (Series(KLINES, f"{letter}USDT", M1) for letter in "ABCD")


@dataclass
class Run:
    """Sockets at work, with all their events."""

    clock: Clock
    witness: Witness
    sockets: BinanceSockets
    events: list[KlineEvent] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def consume(self) -> None:
        async for event in self.sockets.events():
            self.events.append(event)
            self._came.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is checked at each frame."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def hear(self, *streams: Series) -> None:
        """Wait for a frame of each stream that is newer than this call."""
        seen = len(self.events)
        await self.until(lambda: {event.symbol for event in self.events[seen:]} >= {one.symbol for one in streams})

    def connects(self) -> int:
        sockets = self.sockets.status()["sockets"]
        assert isinstance(sockets, dict)
        return sum(int(socket["connects"]) for socket in sockets.values())


@asynccontextmanager
async def running(
    clock: Clock,
    url: str,
    *streams: Series,
    per_socket: int = 200,
    life_s: float = 80_000.0,
    queue_max: int = 20_000,
    proxy_url: str | None = None,
) -> AsyncIterator[Run]:
    witness = Witness()
    sockets = BinanceSockets(
        to(url, Egress(proxy_of(proxy_url)) if proxy_url else DIRECT),
        runtime(clock, witness),
        streams_per_socket=per_socket,
        life_s=life_s,
        queue_max=queue_max,
    )
    sockets.want(streams)
    run = Run(clock, witness, sockets)
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(sockets.run()), tasks.create_task(run.consume())]
        yield run
        for task in work:
            task.cancel()


@asynccontextmanager
async def fed(
    *streams: Series,
    per_socket: int = 200,
    life_s: float = 80_000.0,
    queue_max: int = 20_000,
    speed: float = SPEED,
    before: Callable[[Feed], None] = lambda _: None,
) -> AsyncIterator[tuple[Feed, Run]]:
    clock = ScaledClock(START_MS, speed)
    async with feeding(clock) as feed:
        before(feed)
        async with running(clock, feed.url, *streams, per_socket=per_socket, life_s=life_s, queue_max=queue_max) as run:
            yield feed, run


# --- wishes ---


async def test_the_sandboxes_klines_arrive_by_the_market_route() -> None:
    clock = ScaledClock(START_MS, 20)  # slow, because a socket that a busy machine opens late would be opened again
    async with SandboxServer(clock, seed=1, symbols=5) as sandbox:
        names = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        async with running(clock, sandbox.ws_url, *(Series(KLINES, name, M1) for name in names), per_socket=2) as run:
            await run.until(lambda: {event.symbol for event in run.events if event.is_final} == set(names))
            assert run.connects() == 2
            assert sorted(event.streams for event in run.witness.of(SocketOpened)) == [1, 2]
            await run.witness.wait(FramesReceived)
        assert {entry.path for entry in sandbox.journal.entries if entry.kind == "connect"} == {"/market/stream"}


async def test_wishes_change_on_live_sockets() -> None:
    async with fed(A, B, per_socket=2) as (feed, run):
        await run.hear(A, B)
        run.sockets.want([B, C])
        await feed.until_subscribed("busdt@kline_1m", "cusdt@kline_1m")
        await run.hear(B, C)
        assert len(feed.paths) == 1, "the socket stayed"
        run.sockets.want([B, C, D, A])
        await feed.until_subscribed(*(f"{one}usdt@kline_1m" for one in "abcd"))
        await run.hear(A, B, C, D)
        assert len(feed.streams) == 2, "what does not fit gets a socket of its own"
        run.sockets.want([B, C])
        await feed.until_subscribed("busdt@kline_1m", "cusdt@kline_1m")
        async with asyncio.timeout(PATIENCE_S):
            while len(feed.streams) > 1:
                feed.changed.clear()
                await feed.changed.wait()
        assert len(feed.paths) == 2
        run.sockets.want([])
        await feed.until_subscribed()
        run.sockets.want([A])
        await run.hear(A)


async def test_frames_of_streams_that_are_no_longer_wanted_are_dropped() -> None:
    async with fed(A, B) as (feed, run):
        await run.hear(A, B)
        feed.is_deaf = True
        run.sockets.want([A])
        await run.hear(A)
        await run.hear(A)
        mark = len(run.events)
        await run.until(lambda: len(run.events) > mark + 20)
        assert {event.symbol for event in run.events[mark:]} == {"AUSDT"}


async def test_names_go_in_batches_and_slowly_enough() -> None:
    many = [Series(KLINES, f"S{number}USDT", M1) for number in range(450)]
    async with fed(*many, per_socket=STREAMS_MAX) as (feed, run):
        await feed.until_subscribed(*(f"{one.symbol.lower()}@kline_1m" for one in many))
        assert [len(names) for _, names in feed.messages] == [200, 200, 50]
        await run.hear(*many)
        assert len(feed.paths) == 1


async def test_more_streams_than_a_connection_may_carry_are_refused() -> None:
    with pytest.raises(AssertionError):
        BinanceSockets(
            to("ws://127.0.0.1:9"), runtime(ScaledClock(0, 1), Witness()), streams_per_socket=STREAMS_MAX + 1
        )


# --- losses ---


@pytest.mark.parametrize("is_clean", [False, True])
async def test_a_socket_that_is_cut_or_closed_is_replaced_and_frames_come_again(is_clean: bool) -> None:
    async with fed(A, B, per_socket=1) as (feed, run):
        await run.hear(A, B)
        for losses in (2, 4):
            if is_clean:
                await feed.close_all()
            else:
                for connection in list(feed.streams):
                    connection.transport.abort()
            await run.witness.wait(SocketLost, losses)
            await run.hear(A, B)


async def test_a_cut_in_the_sandbox_heals() -> None:
    clock = ScaledClock(START_MS, SPEED)
    async with SandboxServer(clock, seed=1, symbols=5) as sandbox:
        bitcoin = Series(KLINES, "BTCUSDT", M1)
        async with running(clock, sandbox.ws_url, bitcoin) as run:
            await run.hear(bitcoin)
            sandbox.faults.add(Fault("cut", count=1), clock.now_ms())
            sandbox.faults.add(Fault("refuse", count=2), clock.now_ms())
            await run.witness.wait(SocketLost, 3)
            await run.hear(bitcoin)


async def test_silence_after_the_acknowledgement_is_noticed_and_ends_with_the_fault() -> None:
    def silence(feed: Feed) -> None:
        feed.is_mute = True

    async with fed(A, before=silence) as (feed, run):
        lost = await run.witness.wait(SocketLost)
        assert lost.reason == "no frame of 1 streams for 75 s"
        assert run.witness.of(SocketOpened), "it was acknowledged"
        feed.is_mute = False
        await run.hear(A)


async def test_frames_that_stop_on_a_living_connection_are_noticed() -> None:
    async with fed(A, B) as (feed, run):
        await run.hear(A, B)
        feed.mute.update(feed.subscribed)
        lost = await run.witness.wait(SocketLost)
        assert "no frame" in lost.reason
        feed.mute.clear()
        await run.hear(A, B)


async def test_a_few_silent_streams_are_subscribed_again_and_many_mean_another_socket() -> None:
    many = [Series(KLINES, f"S{number}USDT", M1) for number in range(10)]
    async with fed(*many, speed=120) as (feed, run):
        await run.hear(*many)
        feed.mute.add("s0usdt@kline_1m")
        async with asyncio.timeout(PATIENCE_S):
            while ("UNSUBSCRIBE", ["s0usdt@kline_1m"]) not in feed.messages:
                feed.changed.clear()
                await feed.changed.wait()
        async with asyncio.timeout(PATIENCE_S):
            while feed.messages[-1] != ("SUBSCRIBE", ["s0usdt@kline_1m"]):
                feed.changed.clear()
                await feed.changed.wait()
        feed.mute.update(f"s{number}usdt@kline_1m" for number in range(5))
        lost = await run.witness.wait(SocketLost)
        assert "silent for 2 minutes" in lost.reason


async def test_a_server_that_does_not_acknowledge_or_refuses_is_left() -> None:
    def stubborn(feed: Feed) -> None:
        feed.acknowledges = False
        feed.is_mute = True

    async with fed(A, before=stubborn) as (feed, run):
        assert "not acknowledged" in (await run.witness.wait(SocketLost)).reason
        feed.error = '{"error":{"code":4,"msg":"Too many subscriptions"}}'
        async with asyncio.timeout(PATIENCE_S):
            while "Too many subscriptions" not in run.witness.of(SocketLost)[-1].reason:
                await run.witness.wait(SocketLost, len(run.witness.of(SocketLost)) + 1)


async def test_a_server_that_closes_at_once_is_asked_less_and_less_often() -> None:
    def slam(feed: Feed) -> None:
        feed.closes_at_once = True

    async with fed(A, speed=1_000, before=slam) as (_, run):
        began_ms = run.clock.now_ms()
        await run.witness.wait(SocketLost, 12)
        assert run.clock.now_ms() - began_ms > 60_000, "connecting alone does not reset the pause"


async def test_garbage_is_counted_but_not_each_frame_is_told() -> None:
    async with fed(A) as (feed, run):
        await run.hear(A)
        for text in (
            "{",
            "[]",
            '{"stream":"x","data":{"e":"kline","s":"A","k":{"t":"soon"}}}',
            "\x00" * 60_000,
            "{}",
        ) * 10:
            feed.send_all(text)
        async with asyncio.timeout(PATIENCE_S):
            while run.sockets.status()["garbage_frames"] != 50:
                await run.hear(A)
        told = run.witness.of(GarbageDropped)
        assert GARBAGE_EVENTS_MAX <= len(told) <= 3 * GARBAGE_EVENTS_MAX
        await run.hear(A)
        assert len(feed.paths) == 1, "the socket is kept"
        async with asyncio.timeout(PATIENCE_S):
            while not any("more frames" in event.reason for event in run.witness.of(GarbageDropped)):
                await run.hear(A)


async def test_a_frame_beyond_all_size_ends_the_socket() -> None:
    async with fed(A) as (feed, run):
        await run.hear(A)
        feed.send_all("x" * 100_000)
        await run.witness.wait(SocketLost)
        await run.hear(A)


# --- the state of a stream ---


async def test_a_stream_was_heard_when_its_socket_was() -> None:
    async with fed(A, B, per_socket=2) as (feed, run):
        assert run.sockets.heard_ms(A) is None, "no frame yet"
        feed.mute.add("busdt@kline_1m")
        await run.hear(A)
        heard_ms = run.sockets.heard_ms(A)
        assert heard_ms is not None
        assert run.clock.now_ms() - heard_ms < 60_000
        assert run.sockets.heard_ms(C) is None, "not wanted"
        feed.mute.update(feed.subscribed)
        await run.witness.wait(SocketLost)
        assert run.sockets.heard_ms(A) is None, "its socket is gone"


async def test_a_stream_that_misses_whole_minutes_is_not_vouched_for_by_its_socket() -> None:
    async with fed(A, B, C, D, speed=120) as (feed, run):
        await run.hear(A, B, C, D)
        feed.mute.add("busdt@kline_1m")
        await run.until(lambda: run.sockets.heard_ms(B) is None)
        assert run.sockets.heard_ms(A) is not None
        assert run.witness.of(SocketLost) == []


# --- hand-over ---


async def test_sockets_are_handed_over_without_losing_a_frame() -> None:
    async with fed(A, B, life_s=30.0) as (feed, run):
        await run.until(lambda: run.connects() >= 4)
        await run.hear(A, B)
        assert run.witness.of(SocketLost) == []
        for series in (A, B):
            numbers = [event.kline.trades for event in run.events if event.symbol == series.symbol]
            assert set(numbers) >= set(range(min(numbers), max(numbers) + 1)), "no frame is missing"
        assert max(Counter(feed.subscribed).values()) <= 2


async def test_frames_still_under_way_on_the_old_socket_are_waited_for() -> None:
    def lag(feed: Feed) -> None:
        feed.lag_s = 0.1  # 1 s on the clock, of the five that are allowed; more leaves a busy machine no time

    async with fed(A, life_s=20.0, speed=10, before=lag) as (feed, run):
        await run.hear(A)
        feed.lag_s = 0.0
        await run.until(lambda: run.connects() >= 3)
        numbers = [event.kline.trades for event in run.events]
        assert set(numbers) >= set(range(min(numbers), max(numbers) + 1))


async def test_the_old_socket_stays_until_the_new_one_delivers() -> None:
    async with fed(A, life_s=30.0) as (feed, run):
        await run.hear(A)
        feed.is_mute = True
        await run.until(lambda: run.connects() >= 2)
        await run.witness.wait(SocketLost)  # the new socket, after 75 s of silence
        await run.hear(A)
        feed.is_mute = False
        connects = run.connects()
        await run.until(lambda: run.connects() > connects)
        numbers = [event.kline.trades for event in run.events]
        assert set(numbers) >= set(range(min(numbers), max(numbers) + 1))


async def test_the_sandbox_ends_sockets_after_their_life_and_ours_end_before() -> None:
    clock = ScaledClock(START_MS, SPEED)
    async with (
        SandboxServer(clock, seed=1, symbols=5, socket_life_s=120.0) as sandbox,
        running(clock, sandbox.ws_url, Series(KLINES, "BTCUSDT", M1), life_s=60.0) as run,
    ):
        await run.until(lambda: run.connects() >= 4)
        assert run.witness.of(SocketLost) == []


# --- backpressure, ends ---


async def test_a_slow_consumer_holds_the_readers_back_and_loses_nothing() -> None:
    clock = ScaledClock(START_MS, 1)
    async with feeding(clock) as feed:
        sockets = BinanceSockets(to(feed.url), runtime(clock, Witness()), queue_max=3)
        sockets.want([A])
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(sockets.run())
            async with asyncio.timeout(PATIENCE_S):
                while sockets.status()["queue_waits"] == 0:
                    feed.changed.clear()
                    await asyncio.sleep(0.01)  # noqa: TID251  no event reports a waiting reader
            assert sockets.status()["queue_depth"] == 3
            numbers: list[int] = []
            async for event in sockets.events():
                numbers.append(event.kline.trades)
                if len(numbers) == 20:
                    break
            assert numbers == list(range(numbers[0], numbers[0] + 20))
            working.cancel()


async def test_cancelling_closes_the_sockets_promptly_and_running_again_works() -> None:
    clock = ScaledClock(START_MS, SPEED)
    async with feeding(clock) as feed:
        async with running(clock, feed.url, A, B, per_socket=1) as run:
            await run.hear(A, B)
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < 2.0
        await feed.until_subscribed()
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(run.sockets.run()), tasks.create_task(run.consume())]
            await run.hear(A, B)
            for task in work:
                task.cancel()


async def test_the_proxy_is_honoured() -> None:
    clock = ScaledClock(START_MS, SPEED)
    async with feeding(clock) as feed:
        port = int(feed.url.rpartition(":")[2])
        async with (
            proxy(port) as middle,
            running(clock, "ws://stream.test", A, proxy_url=middle.url) as run,
        ):
            await run.hear(A)
            assert middle.requests == ["CONNECT stream.test:80"]


async def test_longer_intervals_are_not_taken_for_dead_between_their_frames() -> None:
    hourly = Series(KLINES, "AUSDT", INTERVALS["1h"])

    def quiet(feed: Feed) -> None:
        feed.is_mute = True

    async with fed(hourly, speed=100, before=quiet) as (_, run):
        assert (await run.witness.wait(SocketLost)).reason == "no frame of 1 streams for 915 s"
