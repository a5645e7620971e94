"""Streams of any kind: subscribed while wanted, once, on the right route, and complete across a hand-over."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from app.binance import stream_event
from app.domain.interval import M1
from app.domain.series import Series
from app.events import GarbageDropped, SocketHandedOver, SocketLost
from app.kinds.klines import KLINES
from app.ports.clock import Clock
from infra.binance.market_streams import GARBAGE_EVENTS_MAX, MarketStreams
from infra.binance.sockets import BinanceSockets
from infra.sandbox.server import SandboxServer
from tests.binance.feed import Feed, feeding
from tests.clocks import START_MS
from tests.fast_clock import ScaledClock
from tests.net.loopback import Witness, runtime, to
from tests.patience import PATIENCE_S

A, B = (Series(KLINES, f"{letter}USDT", M1) for letter in "AB")


class Decoded:
    """A decoder that counts its frames."""

    def __init__(self, decoder: msgspec.json.Decoder[Any]) -> None:
        self._decoder = decoder
        self.frames = 0

    def decode(self, frame: bytes) -> object:
        self.frames += 1
        return self._decoder.decode(frame)


@dataclass
class Run:
    """Market streams at work beside the sockets of live ingest, and the frames they delivered."""

    clock: Clock
    witness: Witness
    streams: MarketStreams
    klines: BinanceSockets
    came: dict[str, list[bytes]]
    turned: asyncio.Event = field(default_factory=asyncio.Event)

    def numbers(self, stream: str) -> list[int]:
        return [json.loads(payload)["a"] for payload in self.came[stream]]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is checked at each frame."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.turned.clear()
                await self.turned.wait()

    async def hear(self, *streams: str) -> None:
        """Wait for a frame of each stream that is newer than this call."""
        seen = {stream: len(self.came[stream]) for stream in streams}
        await self.until(lambda: all(len(self.came[stream]) > seen[stream] for stream in streams))


@asynccontextmanager
async def running(
    clock: Clock, url: str, *ingested: Series, per_socket: int = 200, life_s: float = 80_000.0
) -> AsyncIterator[Run]:
    witness = Witness()
    klines = BinanceSockets(to(url), runtime(clock, witness), life_s=life_s)
    klines.want(ingested)
    came: dict[str, list[bytes]] = defaultdict(list)

    def deliver(stream: str, payload: bytes) -> None:
        came[stream].append(payload)
        run.turned.set()

    streams = MarketStreams(to(url), runtime(clock, witness), deliver, klines, per_socket=per_socket, life_s=life_s)
    run = Run(clock, witness, streams, klines, came)

    async def consume() -> None:
        async for _ in klines.events():
            run.turned.set()

    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(main()) for main in (klines.run, streams.run, consume)]
        yield run
        for task in work:
            task.cancel()


@asynccontextmanager
async def fed(
    *ingested: Series, speed: float = 50.0, per_socket: int = 200, life_s: float = 80_000.0
) -> AsyncIterator[tuple[Feed, Run]]:
    clock = ScaledClock(START_MS, speed)
    async with (
        feeding(clock) as feed,
        running(clock, feed.url, *ingested, per_socket=per_socket, life_s=life_s) as run,
    ):
        yield feed, run


async def test_the_sandboxes_events_come_as_it_wrote_them_ingested_or_not() -> None:
    clock = ScaledClock(START_MS, 20)
    async with (
        SandboxServer(clock, seed=1, symbols=5) as sandbox,
        running(clock, sandbox.ws_url, Series(KLINES, "BTCUSDT", M1)) as run,
    ):
        names = ("btcusdt@kline_1m", "btcusdt@kline_5m", "ethusdt@kline_1m")
        run.streams.add(names)
        await run.hear(*names)
        for name in names:
            event = json.loads(run.came[name][-1])
            assert (event["e"], event["s"].lower(), event["k"]["i"]) == ("kline", *name.split("@kline_"))
            assert {"f", "L", "B"} <= event["k"].keys(), "nothing was left out"
        said = [json.loads(entry.detail) for entry in sandbox.journal.entries if entry.kind == "message"]
        subscribed = [name for message in said if message["method"] == "SUBSCRIBE" for name in message["params"]]
        assert sorted(subscribed) == sorted(names), "each stream once, ingested ones included"


async def test_each_stream_goes_by_the_route_that_has_it() -> None:
    async with fed() as (feed, run):
        run.streams.add(["ausdt@depth@100ms", "ausdt@trade", "!bookTicker"])
        await run.hear("ausdt@depth@100ms", "ausdt@trade", "!bookTicker")
        assert feed.paths == ["/public/stream"]
        run.streams.add(["ausdt@aggTrade", "!markPrice@arr@1s", "ausdt_perpetual@continuousKline_1m"])
        await run.hear("ausdt@aggTrade", "!markPrice@arr@1s", "ausdt_perpetual@continuousKline_1m")
        assert feed.paths == ["/public/stream", "/market/stream"]


async def test_names_that_no_stream_has_are_never_subscribed() -> None:
    async with fed() as (feed, run):
        run.streams.add(["AUSDT@aggTrade", "ausdt@kline_7m", "nonsense", "a/b@trade", "ausdt@depth7", "ausdt@trade"])
        await feed.until_subscribed("ausdt@trade")
        await run.hear("ausdt@trade")
        assert feed.subscribed == ["ausdt@trade"]


async def test_a_stream_is_left_when_it_is_not_wanted_and_its_socket_with_the_last_one() -> None:
    async with fed(per_socket=2) as (feed, run):
        run.streams.add(["ausdt@trade", "busdt@trade", "cusdt@trade"])
        await run.hear("ausdt@trade", "busdt@trade", "cusdt@trade")
        assert len(feed.streams) == 2
        run.streams.remove(["cusdt@trade", "ausdt@trade"])
        await feed.until(lambda: list(feed.streams.values()) == [{"busdt@trade"}])
        run.streams.remove(["busdt@trade"])
        await feed.until(lambda: not feed.streams)


async def test_a_kline_stream_moves_to_the_sockets_that_ingest_it_and_back() -> None:
    name = "ausdt@kline_1m"
    async with fed() as (feed, run):
        run.streams.add([name])
        await run.hear(name)
        run.klines.want([A])
        run.streams.ingested_changed()
        await feed.until_subscribed(name)  # subscribed once
        await run.hear(name)
        assert not run.streams.status()
        run.klines.want([B])
        run.streams.ingested_changed()
        await feed.until_subscribed(name, "busdt@kline_1m")
        await run.hear(name)
        assert len(run.streams.status()) == 1


async def test_hand_overs_neither_lose_nor_repeat_an_event() -> None:
    names = ["ausdt@aggTrade", "ausdt@depth", "ausdt@trade"]
    async with fed(speed=200, life_s=120) as (feed, run):
        run.streams.add(names)
        await run.witness.wait(SocketHandedOver, 6)
        await run.hear(*names)
        assert not run.witness.of(SocketLost)
        for name in names:
            numbers = run.numbers(name)
            assert all(later == earlier + 1 for earlier, later in pairwise(numbers)), name
            assert feed.sent[name] > 20


async def test_tapped_klines_are_not_repeated_by_a_hand_over_either() -> None:
    name = "ausdt@kline_1m"
    async with fed(A, speed=200, life_s=120) as (_, run):
        run.streams.add([name])
        await run.witness.wait(SocketHandedOver, 3)
        await run.hear(name)
        numbers = [json.loads(payload)["k"]["n"] for payload in run.came[name]]
        assert numbers == sorted(set(numbers))


async def test_a_tapped_frame_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sockets that ingest it; clients are sent a part of the frame's bytes."""
    again = Decoded(stream_event._any_decoder)
    monkeypatch.setattr(stream_event, "_any_decoder", again)
    clock, name = ScaledClock(START_MS, 20), "btcusdt@kline_1m"
    async with (
        SandboxServer(clock, seed=1, symbols=5) as sandbox,
        running(clock, sandbox.ws_url, Series(KLINES, "BTCUSDT", M1)) as run,
    ):
        run.streams.add([name])
        for _ in range(3):
            await run.hear(name)
        assert again.frames == 0
        run.streams.add(["btcusdt@kline_5m"])
        await run.hear("btcusdt@kline_5m")
        assert again.frames, "where nothing ingests the stream, this is the only decoder"


async def test_a_tapped_frame_that_no_client_could_read_ends_no_socket() -> None:
    name = "ausdt@kline_1m"
    async with fed(A) as (feed, run):
        run.streams.add([name])
        await run.hear(name)
        bad = feed.frame(name).replace(b'"2"', b'"2", "B": "\xff"', 1)
        feed.send_all(bad)
        dropped = await run.witness.wait(GarbageDropped)
        assert "not UTF-8" in dropped.reason
        await run.hear(name)
        assert not run.witness.of(SocketLost)
        assert not any(b"\xff" in payload for payload in run.came[name])


async def test_a_stream_that_falls_silent_is_dead_and_subscribed_again() -> None:
    names = ["ausdt@markPrice", "busdt@markPrice"]
    async with fed(speed=100) as (feed, run):
        run.streams.add(names)
        await run.hear(*names)
        assert run.streams.heard_ms(names[0]) is not None
        feed.mute.add(names[0])
        await run.until(lambda: run.streams.heard_ms(names[0]) is None)
        assert run.streams.heard_ms(names[1]) is not None, "the other one is alive"
        await feed.until(lambda: ("UNSUBSCRIBE", [names[0]]) in feed.messages)
        feed.mute.clear()
        await run.hear(names[0])
        assert run.streams.heard_ms(names[0]) is not None


async def test_a_connection_that_acknowledges_and_is_silent_is_replaced() -> None:
    async with fed(speed=100) as (feed, run):
        feed.is_mute = True
        run.streams.add(["ausdt@markPrice"])
        lost = await run.witness.wait(SocketLost)
        assert lost.reason.startswith("no frame of 1 streams")
        feed.is_mute = False
        await run.hear("ausdt@markPrice")


async def test_nothing_is_known_of_a_stream_before_its_first_frame_and_after_its_socket() -> None:
    async with fed() as (feed, run):
        feed.mute.add("ausdt@trade")
        run.streams.add(["ausdt@trade", "busdt@trade"])
        await run.hear("busdt@trade")
        assert run.streams.heard_ms("ausdt@trade") is None
        assert run.streams.heard_ms("cusdt@trade") is None
        feed.mute.update({"busdt@trade"})
        await feed.close_all()
        await run.witness.wait(SocketLost)
        assert run.streams.heard_ms("busdt@trade") is None


async def test_garbage_is_dropped_and_told_of_within_bounds() -> None:
    async with fed() as (feed, run):
        run.streams.add(["ausdt@trade"])
        await run.hear("ausdt@trade")
        for text in ('{"stream":"ausdt@trade","data":{"e":"trade"', "[1]", "\x00", '{"stream":"ausdt@trade"}') * 10:
            feed.send_all(text)
        await run.hear("ausdt@trade")
        await run.witness.wait(GarbageDropped, GARBAGE_EVENTS_MAX)
        await run.hear("ausdt@trade")
        assert len(run.witness.of(GarbageDropped)) == GARBAGE_EVENTS_MAX
        assert all(json.loads(payload)["e"] == "some" for payload in run.came["ausdt@trade"])
