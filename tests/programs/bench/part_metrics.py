"""Part 8: files of metrics into sealed blocks, and ranges read from these, against bare code."""

import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import orjson

from app.binance.metrics_csv import MetricsDay
from app.binance.statistics_rows import ACCOUNTS, OPEN_INTEREST, PERIOD_MS, TAKERS, TOP_ACCOUNTS, TOP_POSITIONS
from app.domain.interval import DAY_MS, INTERVALS
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.metrics import METRICS
from infra.sandbox.archive import metrics
from infra.sandbox.archive.files import parse_path
from infra.sandbox.archive.zips import build_zip
from infra.sandbox.grid import utc_ms
from infra.sandbox.server import create_app
from infra.sqlite.library import sqlite3
from infra.sqlite.sqlite_store import SqliteReader
from tests.programs.bench.figures import Figure, alternating, compared
from tests.programs.bench.part_backfill import ONE_CORE, PATIENCE_S, TASKSET
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.raw import opened
from tests.programs.bench.stage import NOW_MS, Run
from tests.system.processes import ROOT, Programs

PART: Final = "metrics"
SPAN: Final = Span(utc_ms(2026, 8), utc_ms(2026, 11))
ROWS: Final = 500
READS: Final = 200  # in each round
M5: Final = INTERVALS["5m"]
SELECT: Final = (
    "SELECT open_time + 300000, {} FROM metrics WHERE symbol = ? AND open_time >= ? ORDER BY open_time LIMIT ?"
)
Printed = Callable[..., dict[str, object]]
"""Makes the object that REST prints, from a symbol and the values that are selected."""


def _interest(symbol: str, time_ms: int, interest: str, worth: str) -> dict[str, object]:
    return {
        "symbol": symbol,
        "sumOpenInterest": interest,
        "sumOpenInterestValue": worth,
        "CMCCirculatingSupply": "",
        "timestamp": time_ms,
    }


def _ratio(symbol: str, time_ms: int, ratio: str) -> dict[str, object]:
    return {"symbol": symbol, "longAccount": "", "longShortRatio": ratio, "shortAccount": "", "timestamp": time_ms}


def _takers(symbol: str, time_ms: int, ratio: str) -> dict[str, object]:
    return {"buySellRatio": ratio, "sellVol": "", "buyVol": "", "timestamp": time_ms}


BARE: Final[dict[str, tuple[str, Printed]]] = {
    OPEN_INTEREST: ("sum_open_interest, sum_open_interest_value", _interest),
    TOP_ACCOUNTS: ("top_account_ratio", _ratio),
    TOP_POSITIONS: ("top_position_ratio", _ratio),
    ACCOUNTS: ("account_ratio", _ratio),
    TAKERS: ("taker_ratio", _takers),
}
"""By endpoint: the columns of the bare table that it needs, and what prints a row."""


async def measure(run: Run) -> None:
    """Store the same files with the node's parts on all cores and with bare code on one; read ranges of both."""
    folder = run.folder / "metrics"
    folder.mkdir()
    clock = PinnedClock.made(run.folder / "metrics-clock", NOW_MS)
    symbols = [f"{number}BTCUSDT" for number in range(run.size.months)]
    rows = _make_files(clock, folder, symbols, run.size.metrics_days)
    async with Programs(run.folder) as programs:
        ours, bare = run.folder / "metrics.db", run.folder / "metrics-bare.db"
        cores = max(2, os.cpu_count() or 1)

        async def node() -> dict[str, Any]:
            return await _fill(programs, ours, ["node", str(ours), str(cores), str(folder)], ())

        async def limit() -> dict[str, Any]:
            return await _fill(programs, bare, ["bare", str(bare), str(folder)], ONE_CORE)

        pairs = await alternating(run.size.rounds, node, limit)
        programs.end()
    note = f"{len(symbols)} symbols, {rows:,} rows of 5 series each; unzip, split, executemany on one core"
    pinned = "" if TASKSET else " (taskset is not installed: not held to one core)"
    rates = [(rows / mine["seconds"], rows / theirs["seconds"]) for mine, theirs in pairs]
    run.figures.append(compared(PART, f"files into blocks, all cores{pinned}", "rows/s", rates, floor=1.5, note=note))
    spent = [(mine["work_cpu_s"] / rows * 1e6, theirs["work_cpu_s"] / rows * 1e6) for mine, theirs in pairs]
    name = "CPU of the process that writes"
    run.figures.append(compared(PART, name, "µs/row", spent, is_cost=True, note="the unpacking processes left out"))
    spent = [(mine["all_cpu_s"] / rows * 1e6, theirs["all_cpu_s"] / rows * 1e6) for mine, theirs in pairs]
    name, note = "CPU of all processes", "whatever else runs; with two cores to itself, twice the inverse is possible"
    run.figures.append(compared(PART, name, "µs/row", spent, is_cost=True, note=note))
    _add_size(run, ours, rows)
    await _reads(run, ours, bare, symbols)


def _make_files(clock: PinnedClock, folder: Path, symbols: Sequence[str], days: int) -> int:
    """Write the sandbox's files of one symbol under the names of all; return the number of lines."""
    exchange = create_app(clock, symbols=4).exchange
    lines = 0
    for day_ms in range(SPAN.end_ms - days * DAY_MS, SPAN.end_ms, DAY_MS):
        key, _ = parse_path(MetricsDay("BTCUSDT", day_ms).path)
        assert key is not None, "the sandbox has such files"
        item = exchange.universe.find_ever(key.symbol, key.start_ms, key.end_ms)
        assert item is not None, "the sandbox has such a symbol"
        held = metrics.rows(exchange, item, key, NOW_MS)
        csv = metrics.csv(item, held)
        for symbol in symbols:
            name = MetricsDay(symbol, day_ms).name
            (folder / f"{name}.zip").write_bytes(build_zip(name, csv.replace(",BTCUSDT,", f",{symbol},")))
            lines += len(held)
    return lines


async def _fill(programs: Programs, database: Path, arguments: Sequence[str], on: Sequence[str]) -> dict[str, Any]:
    """Fill an empty database with one of the programs; return its times."""
    for each in database.parent.glob(f"{database.name}*"):
        each.unlink()
    command = (*on, sys.executable, "-m", "tests.programs.bench.fill_metrics")
    program = programs.start(*arguments, command=command, cwd=ROOT)
    status = await program.ended(PATIENCE_S)
    assert status == 0, program.said()[-2000:]
    programs.forget()
    found: dict[str, Any] = orjson.loads(program.out.read_bytes())
    return found


def _add_size(run: Run, database: Path, rows: int) -> None:
    with sqlite3.connect(database) as connection:
        stored = connection.execute("SELECT sum(rows) FROM block").fetchone()[0]
        for series in METRICS.values():
            stored += connection.execute(f"SELECT count(*) FROM {series.table}_5m").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert stored == rows * len(METRICS), f"{stored} rows of {rows * len(METRICS)} were stored"
    size = database.stat().st_size
    note = "after VACUUM, everything counted; the sandbox's ratios are noise"
    run.figures.append(
        Figure(PART, "stored row of a series", "bytes", size / stored, floor=30, is_cost=True, note=note)
    )
    run.figures.append(Figure(PART, "stored five minutes of a symbol, all five series", "bytes", size / rows))


async def _reads(run: Run, ours: Path, bare: Path, symbols: Sequence[str]) -> None:
    """Compare reads of ROWS rows that only the database has, without HTTP."""
    chance = random.Random(7)
    first_ms = SPAN.end_ms - run.size.metrics_days * DAY_MS
    starts_ms = range(first_ms, SPAN.end_ms - ROWS * PERIOD_MS, PERIOD_MS)
    wanted = [(chance.choice(list(BARE)), chance.choice(symbols), chance.choice(starts_ms)) for _ in range(READS)]
    reader, connection = SqliteReader(f"sqlite:///{ours}"), opened(bare)

    async def read(name: str, symbol: str, start_ms: int) -> bytes:
        window, kind = Span(start_ms, start_ms + ROWS * PERIOD_MS), METRICS[name]
        found, body = await reader.read_encoded(Series(kind, symbol, M5), window, ROWS)
        assert found == ROWS
        return kind.finished(body, symbol)

    async def bare_read(name: str, symbol: str, start_ms: int) -> bytes:
        columns, row = BARE[name]
        found = connection.execute(SELECT.format(columns), (symbol, start_ms, ROWS)).fetchall()
        return orjson.dumps([row(symbol, *values) for values in found])

    async def spent(reading: Callable[[str, str, int], Awaitable[bytes]]) -> tuple[float, float]:
        began_s, began_cpu_s = perf_counter(), process_time()
        for each in wanted:
            await reading(*each)
        return (perf_counter() - began_s) / READS * 1000, (process_time() - began_cpu_s) / READS * 1000

    try:
        for each in wanted[:20]:
            assert await read(*each) == await bare_read(*each), "the limit answers something else"
        pairs = await alternating(run.size.rounds, lambda: spent(read), lambda: spent(bare_read))
    finally:
        connection.close()
        await reader.close()
    for number, unit in enumerate(("ms", "ms of CPU")):
        times = [(mine[number], theirs[number]) for mine, theirs in pairs]
        name, note = f"{ROWS} cold rows of a series, in process", "fetchall + orjson, the same bytes"
        run.figures.append(compared(PART, name, unit, times, floor=0.3, is_cost=True, note=note))
