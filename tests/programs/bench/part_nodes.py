"""Part 10: a node on Postgres against one on SQLite, and two nodes of one Postgres against one of them."""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from tests.postgres_server import PostgresServer
from tests.programs.bench.figures import alternating, compared
from tests.programs.bench.part_http import PATH, add_rates
from tests.programs.bench.part_postgres import REAL
from tests.programs.bench.part_tail import LIMITS, path_of, warm
from tests.programs.bench.stage import START_S_MAX, UNSEALED, Measured, Run, Stage, staged
from tests.system.processes import ROOT, Place, free_port, until

PART: Final = "nodes"
SYMBOLS: Final = 60
RATIO_MIN: Final = 0.9
TWO_NODES_MIN: Final = 1.8


async def measure(run: Run) -> None:
    """Measure hits and tails on both kinds of store, then two nodes of Postgres at once, each on a core of its own."""
    size = replace(run.size, symbols=min(SYMBOLS, run.size.symbols), deep_symbols=0)
    with PostgresServer(settings=REAL) as server:
        async with AsyncExitStack() as stack:
            stages = []
            for name, url in (("postgres", server.url()), ("sqlite", "")):
                part = Run(size, run.folder / f"nodes-{name}", run.figures, run.curves, run.notes)
                part.folder.mkdir()
                stages.append(await stack.enter_async_context(staged(part, settings=UNSEALED, database=url)))
                await warm(stages[-1])
            await _stores(run, *stages)
            await _two(run, await _second(stages[0]), stages[0])


async def _stores(run: Run, postgres: Stage, sqlite: Stage) -> None:
    rng = random.Random(1)
    tails = [path_of(symbol, limit) for symbol in postgres.market.names for limit in LIMITS]
    for name, paths in (("hits, 500 rows", [PATH]), ("tails, 400–600 rows", tails)):

        async def ours(paths: list[str] = paths) -> Measured:
            rng.shuffle(paths)
            return await postgres.measure(postgres.node, postgres.place.port, paths)

        async def theirs(paths: list[str] = paths) -> Measured:
            rng.shuffle(paths)
            return await sqlite.measure(sqlite.node, sqlite.place.port, paths)

        pairs = await alternating(run.size.rounds, ours, theirs)
        add_rates(postgres, PART, name, pairs, RATIO_MIN, limit_name="a node on SQLite")


async def _second(first: Stage) -> Stage:
    """A second node of the first one's database, which follows its journal, with warm tails."""
    place = Place(first.programs, first.place.upstream_port, free_port(), first.place.settings)
    place.server_url = first.place.server_url
    node = first.programs.start(
        str(first.run.folder / "stage-1m-0" / "clock"),
        str(first.run.folder / "stage-1m-0" / "reads"),
        command=(sys.executable, "-m", "tests.programs.bench.node"),
        env=place.env,
        cwd=ROOT,
    )
    await until(place.is_whole, "the second node knows what is held", START_S_MAX, every_s=0.5)
    second = replace(first, place=place, node=node, run=replace(first.run, folder=first.run.folder / "second"))
    second.run.folder.mkdir()
    await warm(second)
    return second


async def _two(run: Run, second: Stage, first: Stage) -> None:
    """What two nodes serve in a second of processor time each, both under load, against one of them alone."""
    cores = sorted(os.sched_getaffinity(0))
    for number, stage in enumerate((first, second)):
        for pid in stage.node.members():
            os.sched_setaffinity(pid, {cores[number % len(cores)]})

    async def load(stage: Stage) -> Measured:
        return await stage.measure(stage.node, stage.place.port, [PATH], connections=run.size.connections // 2)

    async def both() -> list[Measured]:
        async with asyncio.TaskGroup() as tasks:
            loads = [tasks.create_task(load(stage)) for stage in (first, second)]
        return [each.result() for each in loads]

    async def alone() -> list[Measured]:
        return [await load(first)]

    pairs = await alternating(run.size.rounds, both, alone)
    capacities = [(capacity(two), capacity(one)) for two, one in pairs]
    rates = [(sum(each.outcome.rate for each in two), one[0].outcome.rate) for two, one in pairs]
    note = "answers in a second of processor time of each node, pinned to a core of its own; 500 rows, hits"
    run.figures.append(
        compared(PART, "two nodes", "answers/CPU s", capacities, floor=TWO_NODES_MIN, note=f"against one; {note}")
    )
    note = f"against one; by the clock: two nodes and two loads share {len(cores)} cores"
    run.figures.append(compared(PART, "two nodes", "answers/s", rates, note=note))


def capacity(nodes: Sequence[Measured]) -> float:
    """The answers a second that the nodes would give with a core each."""
    return sum(1e6 / each.cpu_us for each in nodes)
