"""Part 7: the node's sockets at the scale of the market: the cost of a delivered frame, and whether frames are lost."""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import httpx
import orjson

from app.binance.stream_event import kline_stream
from app.domain.interval import INTERVALS
from infra.net.tls import trusting_nobody
from tests.programs.bench.figures import Figure, alternating, compared
from tests.programs.bench.listener import Listener, listen
from tests.programs.bench.stage import UNSEALED, Run, Stage, cpu_s, resident_mb, staged
from tests.system.processes import ROOT, Program, free_port, pause, seconds, until

PART: Final = "streams"
RATE: Final = 1.0  # the market's frames
INGESTED: Final = 40  # of a client's streams: 1m klines, which the node ingests anyway; it subscribes to the others
OTHER_CODES: Final = ("5m", "1h")
NAMES_A_URL: Final = 100  # the sandbox exchange accepts short URLs only
STALLED: Final = 5
WINDOW_SHARE: Final = 4.0  # times a measurement's seconds: frames come in bursts, and klines close once a minute
SETTLE_S: Final = 1.0  # after a window, for frames on their way
WARM_S_MAX: Final = 60.0
CUT_S_MAX: Final = 120.0  # the node cuts a client that reads nothing 60 s after noticing it


@dataclass
class Received:
    """The frames that clients received in a window, and the server's processor time for them."""

    frames: int
    spent_s: float
    took_s: float
    listeners: list[Listener]


def wishes(stage: Stage) -> list[list[str]]:
    """The list of streams of each client."""
    rng, size = random.Random(1), stage.run.size
    names = stage.market.names
    found = []
    for _ in range(size.stream_clients):
        ingested = rng.sample(names, min(INGESTED, len(names)))
        others = rng.sample(names, min(size.streams_a_client - INGESTED, len(names)))
        found.append(
            [kline_stream(name, INTERVALS["1m"]) for name in ingested]
            + [kline_stream(name, INTERVALS[OTHER_CODES[number % 2]]) for number, name in enumerate(others)]
        )
    return found


async def measure(run: Run) -> None:
    """Measure on a stage whose exchange sends the market's number of frames."""
    async with staged(run, rate=RATE, settings=UNSEALED) as stage:
        stage.clock.set(stage.clock.now_ms(), runs=True)
        stage.exchange.signal(signal.SIGUSR1)
        wished = wishes(stage)
        alone_mb = resident_mb(stage.node)
        stalled = [await _stall(stage) for _ in range(STALLED)]
        truth, heard = await _check(stage, wished)
        await _cost(stage, wished, truth)
        await _subscriptions(stage)
        figures = stage.run.figures
        note = f"{len(wished)} clients; {alone_mb:.0f} MB before the first one"
        figures.append(Figure(PART, "resident", "MB", resident_mb(stage.node), note=note))
        await _stalled_are_cut(stage, stalled, heard)
        stage.clock.set(stage.clock.now_ms())


async def _connect(port: int, wished: Sequence[Sequence[str]]) -> list[Listener]:
    listeners = [await listen(port, streams) for streams in wished]

    async def all_hear() -> bool:
        return all(listener.frames for listener in listeners)

    await until(all_hear, "every client hears something", WARM_S_MAX)
    return listeners


async def _window(stage: Stage, program: Program, listeners: list[Listener]) -> Received:
    began, began_s, spent_s = sum(each.frames for each in listeners), seconds(), cpu_s(program)
    await pause(stage.run.size.seconds * WINDOW_SHARE)
    frames, spent_s = sum(each.frames for each in listeners) - began, cpu_s(program) - spent_s
    return Received(frames, spent_s, seconds() - began_s, listeners)


# --- nothing is lost ----------------------------------------------------------------------------------------------


async def _check(stage: Stage, wished: list[list[str]]) -> tuple[list[tuple[float, str, str]], Received]:
    """Compare what clients of the node receive with what a client of the exchange receives.

    Return the exchange's messages, which the limit then sends, and what the clients received.
    """
    names = list(dict.fromkeys(name for streams in wished for name in streams))
    port = stage.place.upstream_port
    truths = [
        await listen(port, names[at : at + NAMES_A_URL], "/market", keeps=True)
        for at in range(0, len(names), NAMES_A_URL)
    ]
    listeners = await _connect(stage.place.port, wished)
    await until(lambda: _is_subscribed(stage, len(names)), "the node has every stream", WARM_S_MAX)
    await pause(SETTLE_S)
    began_ms = stage.clock.now_ms()
    heard = await _window(stage, stage.node, listeners)
    ended_ms = stage.clock.now_ms()
    await pause(SETTLE_S)
    truth = {name: times for each in truths for name, times in _within(each, began_ms, ended_ms).items()}
    lost = late = 0
    for listener, streams in zip(listeners, wished, strict=True):
        mine = _within(listener, began_ms, ended_ms)
        for name in streams:
            due, came = truth.get(name, []), mine.get(name, [])
            lost += sum((Counter(due) - Counter(came)).values())
            late += came != sorted(came)
        assert not listener.is_lost, "a client that reads was cut"
    kept = sorted(message for each in truths for message in each.kept)
    for each in (*truths, *listeners):
        each.close()
    note = f"of {heard.frames:,} in {heard.took_s:.0f} s to {len(wished)} clients; {late} streams out of order"
    figures = stage.run.figures
    figures.append(Figure(PART, "lost by clients that read", "frames", lost + late, floor=0, is_cost=True, note=note))
    figures.append(Figure(PART, "delivered", "frames/s", heard.frames / heard.took_s))
    return kept, heard


def _within(listener: Listener, began_ms: int, ended_ms: int) -> Mapping[str, list[int]]:
    """By stream: the event times within the window, without repeats (this exchange repeats frames to keep its rate)."""
    return {
        name: [time_ms for time_ms, _ in groupby(times) if began_ms <= time_ms < ended_ms]
        for name, times in listener.times_ms.items()
    }


async def _is_subscribed(stage: Stage, number: int) -> bool:
    streams = (await stage.place.health())["streams"]
    sockets = [socket for socket in streams["upstream"].values() if socket["newest_frame_age_ms"] is not None]
    return bool(streams["subscribed"] >= number and len(sockets) == len(streams["upstream"]))


# --- what it costs ------------------------------------------------------------------------------------------------


async def _cost(stage: Stage, wished: list[list[str]], truth: list[tuple[float, str, str]]) -> None:
    began_s = truth[0][0]
    path, port = stage.run.folder / "messages.json", free_port()
    path.write_bytes(orjson.dumps([(at_s - began_s, stream, text) for at_s, stream, text in truth]))
    command = (sys.executable, "-m", "tests.programs.bench.broadcast")
    bare = stage.programs.start(str(port), str(path), command=command, cwd=ROOT)
    await until(lambda: _listens(port), "the limit listens")
    bare.signal(signal.SIGUSR1)
    totals = []

    async def ours() -> float:
        idle = await _window(stage, stage.node, [])
        listeners = await _connect(stage.place.port, wished)
        heard = await _window(stage, stage.node, listeners)
        for each in listeners:
            each.close()
        totals.append(heard.spent_s / heard.frames * 1e6)
        return (heard.spent_s - idle.spent_s * heard.took_s / idle.took_s) / heard.frames * 1e6

    async def limit() -> float:
        listeners = await _connect(port, wished)
        heard = await _window(stage, bare, listeners)
        for each in listeners:
            each.close()
        return heard.spent_s / heard.frames * 1e6

    pairs = await alternating(stage.run.size.rounds, ours, limit)
    note = f"beyond what the node spends without clients; with all of that {max(totals):.2g} at the most"
    figure = compared(PART, "a delivered frame", "µs of CPU", pairs, floor=1.0, is_cost=True, note=note)
    stage.run.figures.append(figure)
    bare.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


# --- the exchange's side, and clients that do not read ----------------------------------------------------------------


async def _subscriptions(stage: Stage) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60, verify=trusting_nobody()) as client:
        answer = await client.get(f"http://127.0.0.1:{stage.place.upstream_port}/sandbox/requests")
    said = [orjson.loads(entry["detail"]) for entry in answer.json()["requests"] if entry["kind"] == "message"]
    held: Counter[str] = Counter()
    most = 0
    for message in said:
        step = 1 if message["method"] == "SUBSCRIBE" else -1
        for name in message["params"]:  # the node releases streams without clients and subscribes to them again
            held[name] += step
            most = max(most, held[name])
    note = f"{len(held):,} streams by the exchange's own account"
    stage.run.figures.append(
        Figure(PART, "subscriptions of a stream at once", "most", most, floor=1, is_cost=True, note=note)
    )


async def _stall(stage: Stage) -> Listener:
    """Connect a client that subscribes to every symbol and never reads."""
    names = [kline_stream(name, INTERVALS["1m"]) for name in stage.market.names]
    return await listen(stage.place.port, names, is_stalled=True)


async def _stalled_are_cut(stage: Stage, stalled: list[Listener], heard: Received) -> None:
    del heard

    async def are_cut() -> bool:
        return int((await stage.place.health())["streams"]["cut"]) >= len(stalled)

    streams = (await stage.place.health())["streams"]
    if streams["conflated"]:  # a handful of symbols does not fill the kernel's buffers
        await until(are_cut, "those who do not read are cut", CUT_S_MAX, every_s=0.5)
    streams = (await stage.place.health())["streams"]
    note = f"{streams['conflated']:,} frames replaced by newer ones before"
    stage.run.figures.append(Figure(PART, "stalled clients cut", f"of {len(stalled)}", streams["cut"], note=note))
    for each in stalled:
        each.close()
