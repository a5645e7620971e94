"""Part 12: a batch of all symbols against single requests and bare bytes; rolling windows against roll-ups."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

import orjson

from app.domain.columns import Columns
from app.domain.interval import MINUTE_MS
from app.domain.kline import Kline
from app.domain.rolling_windows import Windows, rolled
from app.domain.rollup import added_up
from tests.programs.bench.figures import Figure, alternating, compared
from tests.programs.bench.load import Load, Outcome, apply
from tests.programs.bench.part_http import answer_of
from tests.programs.bench.part_tail import path_of, warm
from tests.programs.bench.raw import reply_file
from tests.programs.bench.stage import Stage, cpu_s
from tests.system.processes import Program

PART: Final = "batch"
ROWS: Final = 500
BATCH: Final = f"/v1/klines/batch?symbols=all&interval=1m&limit={ROWS}"
BESIDE_RAW_MAX: Final = 5.0
BESIDE_SINGLES_MAX: Final = 1.25
NAIVE_TIMES_MIN: Final = 8.0  # for windows of 90 minutes
LENGTHS: Final = (90, 1_440)
BESIDE_S: Final = 2.0


async def measure(stage: Stage) -> None:
    """Measure batches of 500 rows of every symbol from memory, then what they do to others, then rolling windows."""
    await warm(stage)
    await _batches(stage)
    await _beside(stage)
    await _rolling(stage)


class _Cost(NamedTuple):
    """The time until all is answered, and the processor time of the server's processes for it, both in ms."""

    wall_ms: float
    cpu_ms: float


async def _once(
    stage: Stage,
    program: Program,
    port: int,
    paths: Sequence[str],
    headers: Mapping[str, str] | None = None,
    connections: int = 1,
) -> _Cost:
    """What it costs to answer all `paths`, each once."""
    load = Load(port, paths, connections, None, headers or {})
    before_s = cpu_s(program)
    outcome = await apply(load, stage.run.folder)
    assert outcome.failed == 0, f"{outcome.failed} answers were errors"
    wall_ms = outcome.ms[-1] if outcome.requests == 1 else outcome.seconds * 1000
    return _Cost(wall_ms, (cpu_s(program) - before_s) * 1000)


async def _batches(stage: Stage) -> None:
    port = stage.place.port
    symbols = len(stage.market.names)
    singles = [path_of(symbol, ROWS) for symbol in stage.market.names]
    codings: Mapping[str, Mapping[str, str]] = {
        "plain": {},
        "gzip": {"Accept-Encoding": "gzip"},
        "zstd": {"Accept-Encoding": "zstd"},
    }

    async def batch(headers: Mapping[str, str]) -> _Cost:
        return await _once(stage, stage.node, port, [BATCH], headers)

    for name, headers in codings.items():
        status, stated, body = await answer_of(port, BATCH, headers)
        note = f"{symbols} symbols × {ROWS} rows, {len(body):,} bytes"
        if name != "plain":
            _report(stage, f"a batch, {name}", [await batch(headers) for _ in range(stage.run.size.rounds)], note)
            continue
        raw, raw_port = await stage.raw("joined", reply_file(stage.run.folder / "reply.json", status, stated, body))
        pairs = await alternating(
            stage.run.size.rounds, partial(batch, headers), partial(_once, stage, raw, raw_port, [BATCH])
        )
        raw.kill()
        _add(stage, f"a batch, {name}", pairs, BESIDE_RAW_MAX, f"against raw ASGI that joins the same bytes; {note}")
    for connections, floor in ((1, BESIDE_SINGLES_MAX), (stage.run.size.connections, None)):
        pairs = await alternating(
            stage.run.size.rounds,
            partial(batch, codings["plain"]),
            partial(_once, stage, stage.node, port, singles, connections=connections),
        )
        _add(stage, "a batch, plain", pairs, floor, f"against {symbols} single requests from {connections} connections")


def _report(stage: Stage, name: str, costs: Sequence[_Cost], note: str) -> None:
    wall_ms, cpu_ms = (median(each) for each in zip(*costs, strict=True))
    stage.run.figures.append(Figure(PART, name, "ms", wall_ms, note=note, rounds=[list(each) for each in costs]))
    stage.run.figures.append(Figure(PART, f"{name}: CPU", "ms", cpu_ms, note="the server's processes"))


def _add(stage: Stage, name: str, pairs: Sequence[tuple[_Cost, _Cost]], floor: float | None, note: str) -> None:
    """Add the figures of time and processor time; the floor is for the latter, which other load does not change."""
    add = stage.run.figures.append
    walls = [(mine.wall_ms, theirs.wall_ms) for mine, theirs in pairs]
    add(compared(PART, name, "ms", walls, is_cost=True, note=note))
    cpus = [(mine.cpu_ms, theirs.cpu_ms) for mine, theirs in pairs]
    add(compared(PART, f"{name}: CPU", "ms", cpus, floor=floor, is_cost=True, note="the server's processes"))


async def _beside(stage: Stage) -> None:
    """The latency of single requests while one client asks for batches all the time, against nobody doing that."""
    port, seconds = stage.place.port, min(BESIDE_S, stage.run.size.seconds)
    single = Load(port, [path_of(stage.market.names[0], ROWS)], 1, seconds)

    async def alone() -> Outcome:
        return await apply(single, _folder(stage, "alone"))

    async def beside() -> Outcome:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(apply(Load(port, [BATCH], 1, seconds), _folder(stage, "batches")))
            return await apply(single, _folder(stage, "beside"))

    pairs = await alternating(stage.run.size.rounds, beside, alone)
    for quantile in (0.5, 0.99):
        found = [(mine.quantile_ms(quantile), theirs.quantile_ms(quantile)) for mine, theirs in pairs]
        note = "while one client asks for batches all the time, against nobody doing that"
        stage.run.figures.append(
            compared(PART, f"a single request, p{quantile * 100:.0f}", "ms", found, is_cost=True, note=note)
        )


def _folder(stage: Stage, name: str) -> Path:
    folder = stage.run.folder / name
    folder.mkdir(exist_ok=True)
    return folder


async def _rolling(stage: Stage) -> None:
    _, _, body = await answer_of(stage.place.port, path_of("ETHUSDT", 1500), {})
    minutes = [Kline(*row[:6], *row[7:11]) for row in orjson.loads(body)]
    columns = Columns.of(minutes)
    for length in LENGTHS:
        windows = Windows(minutes[0].open_ms, length * MINUTE_MS, MINUTE_MS, len(minutes) - length + 1)

        async def ours(windows: Windows = windows) -> float:
            return _rate(lambda: list(rolled(columns, windows)), windows.number)

        async def naive(windows: Windows = windows, length: int = length) -> float:
            def made() -> list[Kline | None]:
                return [
                    added_up(minutes[first : first + length], minutes[first].open_ms) for first in range(windows.number)
                ]

            assert made() == list(rolled(columns, windows))
            return _rate(made, windows.number)

        pairs = await alternating(stage.run.size.rounds, ours, naive)
        floor = NAIVE_TIMES_MIN if length == LENGTHS[0] else None
        note = f"against a roll-up of each window alone; {windows.number} windows, step 1m"
        stage.run.figures.append(
            compared(PART, f"windows of {length} minutes", "windows/s", pairs, floor=floor, note=note)
        )


def _rate(work: Callable[[], object], number: int) -> float:
    """How many of `number` results `work` makes in a second."""
    began_s = perf_counter()
    work()
    return number / (perf_counter() - began_s)
