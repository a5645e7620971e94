"""Parts 4 and 6 on a stage with all intervals: memory with full tails, frames over sockets, and frames in process."""

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import Final

import httpx
import msgspec
from websockets.asyncio.client import connect

from app.binance import stream_event
from app.binance.stream_event import KlineEvent
from app.domain.interval import M1, MINUTE_MS
from app.node.node import Node
from app.node.parts import Parts
from app.settings import load
from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.render import rest_row
from infra.sandbox.render import stream_event as event_of
from tests.programs.bench.figures import Figure, compared
from tests.programs.bench.part_tail import AFTER_CLOSE_MS, path_of
from tests.programs.bench.stage import UNSEALED, Run, Stage, cpu_s, resident_mb, staged
from tests.programs.rehearsal.wire import Wire
from tests.system.processes import free_port, seconds, until

INGEST: Final = "ingest"
MEMORY: Final = "memory"
CODES: Final = ("1m", "3m", "5m", "15m", "1h", "4h", "1d")
ROWS_ASKED: Final = 500
AT_ONCE: Final = 8
RATE: Final = 5.0  # times the market's frames
LISTENING_S: Final = 5.0
REPORTS: Final = 2  # updates of a node's frame counter, ten seconds each
REPORT_S_MAX: Final = 60.0
STREAMS_A_SOCKET: Final = 200
BUDGET_MB: Final = 320.0


class _Bare(msgspec.Struct, gc=False):
    """The fields of a kline frame that a reader needs, without validation."""

    stream: str = ""
    data: dict[str, object] = {}


_decoder: Final = msgspec.json.Decoder(_Bare)


async def measure(run: Run) -> None:
    """Measure what needs 600 symbols × 7 intervals."""
    async with staged(run, codes=CODES, rows_min=ROWS_ASKED, rate=RATE, settings=UNSEALED) as stage:
        await _memory(stage)
        await _over_sockets(stage)
        stage.node.kill()
        await _in_process(stage)


# --- memory -----------------------------------------------------------------------------------------------------------


async def _memory(stage: Stage) -> None:
    before_mb = resident_mb(stage.node)
    slots = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stage.place.port}", trust_env=False, verify=trusting_nobody()
    ) as client:

        async def ask(symbol: str, code: str) -> None:
            query: dict[str, str | int] = {"symbol": symbol, "interval": code, "limit": ROWS_ASKED}
            async with slots:
                (await client.get("/fapi/v1/klines", params=query, timeout=60)).raise_for_status()

        async with asyncio.TaskGroup() as tasks:
            for symbol in stage.market.names:
                for code in CODES:
                    tasks.create_task(ask(symbol, code))
    series = len(stage.market.names) * len(CODES)
    note = f"of one process; {series:,} series, {ROWS_ASKED} klines asked of each; {before_mb:.0f} MB after the start"
    await _note_memory(stage, "resident", note)
    minutes = stage.run.size.memory_minutes
    await _pass_minutes(stage, minutes)
    note = f"every minute all symbols close and are asked for {ROWS_ASKED} klines; of the exchange's clock"
    await _note_memory(stage, f"resident after {minutes} minutes more", note)


async def _note_memory(stage: Stage, name: str, note: str) -> None:
    """Note the memory at once, and after the clock has run: tails are compressed, and pages returned, by and by."""
    figures, settle_s = stage.run.figures, stage.run.size.settle_s
    figures.append(Figure(MEMORY, f"{name}, at once", "MB", resident_mb(stage.node), is_cost=True, note=note))
    stage.clock.set(stage.clock.now_ms(), runs=True)
    await SystemClock().sleep(settle_s)
    stage.clock.set(stage.clock.now_ms())
    found, note = resident_mb(stage.node), f"the clock has run for {settle_s:.0f} s"
    figures.append(Figure(MEMORY, name, "MB", found, floor=BUDGET_MB, is_cost=True, note=note))


async def _pass_minutes(stage: Stage, minutes: int) -> None:
    """Move the clock from close to close, each time waiting until every symbol's kline is served."""
    wire = Wire(stage.place.port)
    begin_ms = stage.clock.now_ms() // MINUTE_MS * MINUTE_MS
    for open_ms in range(begin_ms, begin_ms + minutes * MINUTE_MS, MINUTE_MS):
        stage.clock.set(open_ms + MINUTE_MS + AFTER_CLOSE_MS)

        async def is_here(symbol: str, open_ms: int = open_ms) -> bool:
            answer = await wire.ask(path_of(symbol, ROWS_ASKED))
            newest = answer.body[answer.body.rfind(b"[") + 1 :].split(b",", 1)[0]
            return answer.status == 200 and int(newest) >= open_ms

        for symbol in stage.market.names:
            await until(lambda symbol=symbol: is_here(symbol), f"{symbol} has closed", REPORT_S_MAX)  # type: ignore[misc]
    wire.close()


# --- over sockets -----------------------------------------------------------------------------------------------------


async def _over_sockets(stage: Stage) -> None:
    """Measure a frame's processor time in a node and in a client that only decodes, on the exchange's sockets."""
    stage.clock.set(stage.clock.now_ms(), runs=True)
    stage.exchange.signal(signal.SIGUSR1)
    await _next_report(stage, await _frames(stage))
    began, began_s, cpu_before_s = await _frames(stage), seconds(), cpu_s(stage.node)
    for _ in range(REPORTS):
        await _next_report(stage, await _frames(stage))
    frames, took_s, spent_s = await _frames(stage) - began, seconds() - began_s, cpu_s(stage.node) - cpu_before_s
    heard, listening_s = await _listen(stage)
    stage.clock.set(stage.clock.now_ms())
    note = f"{frames / took_s:,.0f} frames a second came; websockets and decoding, everything that runs in the node"
    figures = stage.run.figures
    pairs = [(frames / spent_s, heard / listening_s)]
    figures.append(compared(INGEST, "over real sockets", "frames/s of CPU", pairs, note=note))


async def _frames(stage: Stage) -> float:
    text = (await stage.place.get("/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("klinenode_frames_total"))


async def _next_report(stage: Stage, before: float) -> None:
    async def has_grown() -> bool:
        return await _frames(stage) > before

    await until(has_grown, "the node has counted frames", REPORT_S_MAX, every_s=0.1)


async def _listen(stage: Stage) -> tuple[int, float]:
    """The number of frames that a bare client decodes, and its thread's processor time in seconds."""
    streams = [stream_event.kline_stream(name, M1) for name in stage.market.names]
    heard = 0

    async def follow(names: Sequence[str]) -> None:
        nonlocal heard
        url = f"ws://127.0.0.1:{stage.place.upstream_port}/market/stream"
        async with connect(url, compression=None, max_queue=None) as socket:
            await socket.send(stream_event.subscribe(list(names), 1))
            while True:
                _decoder.decode(await socket.recv(decode=False))
                heard += 1

    began_s = time.thread_time()
    try:
        async with asyncio.timeout(LISTENING_S), asyncio.TaskGroup() as tasks:
            for at in range(0, len(streams), STREAMS_A_SOCKET):
                tasks.create_task(follow(streams[at : at + STREAMS_A_SOCKET]))
    except TimeoutError:
        return heard, time.thread_time() - began_s
    raise AssertionError("the streams ended")


# --- in process -------------------------------------------------------------------------------------------------------


def frames_of(stage: Stage, minute_ms: int) -> list[bytes]:
    """The market's frames of one minute: live klines in turn, and at the end the closing frames."""
    live: list[tuple[int, bytes]] = []
    closing: list[bytes] = []
    exchange, count = stage.market.exchange, stage.run.size.frames_a_symbol
    for number, name in enumerate(stage.market.names):
        item = exchange.universe.find(name, minute_ms)
        assert item is not None
        stream = stream_event.kline_stream(name, M1)
        walk = exchange.market.block(item, minute_ms).minute(minute_ms)[1]
        for at_ms in range(0, MINUTE_MS, MINUTE_MS // count) if walk else ():
            candle = walk.candle_at(minute_ms, at_ms // QUANTUM_MS) if walk else None
            if candle is not None:
                row = rest_row(item, candle, minute_ms + MINUTE_MS - 1)
                event = event_of(item, "1m", row, minute_ms + at_ms, closed=False)
                live.append((at_ms * 1000 + number, f'{{"stream":"{stream}","data":{event}}}'.encode()))
        row = rest_row(item, exchange.market.candle(item, "1m", minute_ms), minute_ms + MINUTE_MS - 1)
        event = event_of(item, "1m", row, minute_ms + MINUTE_MS + 500, closed=True)
        closing.append(f'{{"stream":"{stream}","data":{event}}}'.encode())
    return [frame for _, frame in sorted(live)] + closing


async def _in_process(stage: Stage) -> None:
    """Measure decoding, tail and roll-up of a node without sockets against decoding alone, writing between minutes."""
    place = stage.place
    env = {**place.env, "BINANCE_WS_URL": f"ws://127.0.0.1:{free_port()}", "LOG_LEVEL": "ERROR"}  # no frames but ours
    settings = load({name.lower(): value for name, value in env.items()}, env_file=None)
    node = Node(Parts(settings, stage.clock))
    async with node.running():
        await until(lambda: _is_ready(node, stage), "the node is warm", REPORT_S_MAX)
        start_ms = stage.clock.now_ms() // MINUTE_MS * MINUTE_MS
        pairs, closings, everything = [], [], [0, 0.0]
        for number in range(stage.run.size.ingest_minutes):
            minute_ms = start_ms + number * MINUTE_MS
            frames = frames_of(stage, minute_ms)
            closing = len(stage.market.names)
            stage.clock.set(minute_ms + MINUTE_MS - 1)
            whole_s = time.process_time()
            live_s = await _taken(node, frames[:-closing])
            stage.clock.set(minute_ms + MINUTE_MS + 600)
            closing_s = await _taken(node, frames[-closing:])
            await until(lambda: _is_written(node), "the minute is written")
            everything = [everything[0] + len(frames), everything[1] + time.process_time() - whole_s]
            pairs.append((len(frames) / (live_s + closing_s), len(frames) / _decoded(frames)))
            closings.append((closing / closing_s, closing / _decoded(frames[-closing:])))
    figures = stage.run.figures
    note = f"{stage.run.size.frames_a_symbol} live frames and a closing one of {closing} symbols a minute"
    figures.append(compared(INGEST, "in process, of the market's mix", "frames/s of CPU", pairs, note=note))
    mine = figures[-1].ours
    figures.append(Figure(INGEST, "in process, of the market's mix", "frames/s of CPU", mine, floor=50_000))
    figures.append(compared(INGEST, "closing frames alone", "frames/s of CPU", closings, note="with all roll-ups"))
    rate = everything[0] / everything[1]
    figures.append(Figure(INGEST, "everything, the writes too", "frames/s of CPU", rate, note="all threads"))


async def _is_ready(node: Node, stage: Stage) -> bool:
    parts = node.parts
    if node.writer is None or not parts.clock.is_trusted or not set(stage.market.names) <= parts.symbols.wished_set:
        return False
    end_ms = stage.clock.now_ms() // MINUTE_MS * MINUTE_MS
    return not any(node.parts.rolling.lacking(name, end_ms) for name in stage.market.names)


async def _is_written(node: Node) -> bool:
    assert node.writer is not None
    return node.writer.live.queue_depth == 0


async def _taken(node: Node, frames: Sequence[bytes]) -> float:
    assert node.writer is not None
    began_s = time.thread_time()
    for frame in frames:
        event = stream_event.decode(frame)
        assert type(event) is KlineEvent
        await node.writer.live.take(event)  # never waits while the queue has room: no other task runs meanwhile
    return time.thread_time() - began_s


def _decoded(frames: Sequence[bytes]) -> float:
    began_s = time.thread_time()
    for frame in frames:
        _decoder.decode(frame)
    return time.thread_time() - began_s
