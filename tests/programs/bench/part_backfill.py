"""Part 5: months of archive files into SQLite, by a node and by bare code; and a year with its roll-ups."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import orjson

from app.binance.archive_csv import ArchiveFile
from app.domain.interval import M1
from app.domain.span import Span
from infra.net.tls import trusting_nobody
from infra.sandbox.grid import utc_ms
from infra.sqlite.library import sqlite3
from tests.programs.bench.figures import Figure, alternating, compared
from tests.programs.bench.market import Market
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.stage import NOW_MS, Run, until_answers
from tests.programs.soak.flood import WEIGHT_LIMIT
from tests.system.processes import ROOT, Place, Programs

PART: Final = "backfill"
CODES: Final = ("1m", "3m", "5m", "15m", "1h", "4h", "1d")
MONTH: Final = Span(utc_ms(2026, 10), utc_ms(2026, 11))
TASKSET: Final = shutil.which("taskset")
ONE_CORE: Final = (TASKSET, "-c", str(min(os.sched_getaffinity(0)))) if TASKSET else ()
FETCHES: Final = 4
PATIENCE_S: Final = 600.0


class Yard:
    """The exchange with its archive files ready, and a new database for each program that stores them."""

    def __init__(self, run: Run, programs: Programs, clock: Path, place: Place) -> None:
        self._run = run
        self._programs = programs
        self._clock = clock
        self._place = place
        self._databases = 0

    async def node(self, symbols: Sequence[str], codes: Sequence[str], span: Span, *, cores: int) -> dict[str, Any]:
        """Fill an empty database with a node on `cores` cores; return its times and the resulting rows."""
        self._databases += 1
        self._place.database = f"filled-{self._databases}.db"
        env = {**self._place.env, "FETCH_CONCURRENCY": str(FETCHES if cores > 1 else 1), "LOG_LEVEL": "ERROR"}
        arguments = ["node", str(self._clock), ",".join(symbols), ",".join(codes), *map(str, span)]
        found = await self._fill(arguments, env, cores)
        database = self._programs.folder / self._place.database
        with sqlite3.connect(database) as connection:
            plain = sum(connection.execute(f"SELECT count(*) FROM kline_{code}").fetchone()[0] for code in codes)
            found["rows"] = plain + connection.execute("SELECT coalesce(sum(rows), 0) FROM block").fetchone()[0]
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        found["bytes"] = database.stat().st_size
        database.unlink()
        return found

    async def bare(self, files: Sequence[Path]) -> dict[str, Any]:
        """Fill an empty database with the bare code on one core; return its times."""
        database = self._programs.folder / "bare.db"
        found = await self._fill(["bare", str(database), *map(str, files)], {}, 1)
        for each in self._programs.folder.glob("bare.db*"):
            each.unlink()
        return found

    async def _fill(self, arguments: Sequence[str], env: dict[str, str], cores: int) -> dict[str, Any]:
        command = (*(ONE_CORE if cores == 1 else ()), sys.executable, "-m", "tests.programs.bench.fill")
        program = self._programs.start(*arguments, command=command, env=env, cwd=ROOT)
        status = await program.ended(PATIENCE_S)
        assert status == 0, program.said()[-2000:]
        self._programs.forget()
        found: dict[str, Any] = orjson.loads(program.out.read_bytes())
        return found


async def measure(run: Run) -> None:
    """Store the same files with a node on one core, a node on all cores, and the bare code."""
    folder = run.folder / "backfill"
    folder.mkdir()
    clock = PinnedClock.made(folder / "clock", NOW_MS)
    symbols = Market(clock, run.size.months + 4).names[: run.size.months]
    async with Programs(folder) as programs:
        place = Place(programs, 0, settings={"WEIGHT_PER_MINUTE": str(WEIGHT_LIMIT)})
        place.upstream_port = Place(programs, 0).port
        arguments = (str(folder / "clock"), str(place.upstream_port), str(run.size.months + 4), "0")
        programs.start(*arguments, command=(sys.executable, "-m", "tests.programs.bench.exchange"), cwd=ROOT)
        await until_answers(programs, place.upstream_port, "/fapi/v1/ping")
        yard = Yard(run, programs, folder / "clock", place)
        files = [await download(place, symbol, MONTH, folder) for symbol in symbols]
        rows = len(symbols) * M1.grid.count(*MONTH)
        await _months(run, yard, symbols, files, rows)
        await _year(run, yard, place, symbols[0], folder)
        programs.end()


async def _months(run: Run, yard: Yard, symbols: Sequence[str], files: Sequence[Path], rows: int) -> None:
    rates: dict[bool, list[tuple[float, float]]] = {}
    spent: dict[bool, list[tuple[float, float]]] = {}
    nodes: list[dict[str, Any]] = []
    for cores in (1, max(2, os.cpu_count() or 1)):

        async def ours(cores: int = cores) -> dict[str, Any]:
            return await yard.node(symbols, ["1m"], MONTH, cores=cores)

        async def limit() -> dict[str, Any]:
            return await yard.bare(files)

        pairs = await alternating(run.size.rounds, ours, limit)
        rates[cores > 1] = [(rows / mine["seconds"], rows / theirs["seconds"]) for mine, theirs in pairs]
        spent[cores > 1] = [
            (mine["work_cpu_s"] / rows * 1e6, theirs["work_cpu_s"] / rows * 1e6) for mine, theirs in pairs
        ]
        nodes += [mine for mine, _ in pairs]
    assert all(each["rows"] == rows for each in nodes), "not every row was stored"
    note = f"{len(files)} files, {rows:,} rows; bare: unzip, split, executemany on one core"
    pinned = "" if TASKSET else " (taskset is not installed: not held to one core)"
    run.figures.append(compared(PART, f"one core{pinned}", "rows/s", rates[False], floor=1.2, note=note))
    run.figures.append(
        compared(PART, "all cores", "rows/s", rates[True], floor=2.0, note="the same limit, on one core")
    )
    run.figures.append(compared(PART, "CPU, one core", "µs/row", spent[False], is_cost=True, note="whatever else runs"))
    name = "CPU of the process that writes, all cores"
    serial = compared(PART, name, "µs/row", spent[True], floor=0.12, is_cost=True)
    most = (
        f"the part that is not done side by side: at most {1 / (serial.ratio or 1):.1f} × bare with any number of cores"
    )
    run.figures.append(replace(serial, note=most))
    cpu = median(each["cpu_s"] for each in nodes) / rows * 1e6
    run.figures.append(Figure(PART, "CPU, start and end included", "µs/row", cpu))
    peak_mb, note = max(each["peak_mb"] for each in nodes), "the peaks of all processes added up"
    run.figures.append(Figure(PART, "peak memory", "MB", peak_mb, floor=320, is_cost=True, note=note))
    size = median(each["bytes"] for each in nodes) / rows
    run.figures.append(Figure(PART, "stored row of 1m", "bytes", size, floor=40, is_cost=True))


async def _year(run: Run, yard: Yard, place: Place, symbol: str, folder: Path) -> None:
    months = [(2025, 11), (2025, 12), *((2026, month) for month in range(1, 12))][-run.size.year_months - 1 :]
    starts_ms = [utc_ms(year, month) for year, month in months]
    for start_ms, end_ms in pairwise(starts_ms):
        await download(place, symbol, Span(start_ms, end_ms), folder)
    found = await yard.node([symbol], CODES, Span(starts_ms[0], starts_ms[-1]), cores=os.cpu_count() or 1)
    note = f"{found['rows']:,} rows of {len(CODES)} intervals, {found['cpu_s']:.1f} s of CPU"
    run.figures.append(
        Figure(PART, f"{len(starts_ms) - 1} months of a symbol and 6 roll-ups", "s", found["seconds"], note=note)
    )


async def download(place: Place, symbol: str, span: Span, folder: Path) -> Path:
    """Download a month's archive file of a symbol; the exchange makes it on this first request and caches it."""
    file = ArchiveFile(symbol, M1, span, is_monthly=True)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{place.upstream_port}", trust_env=False, verify=trusting_nobody()
    ) as client:
        answer = await client.get(file.path, timeout=60)
    path = folder / f"{file.name}.zip"
    path.write_bytes(answer.raise_for_status().content)
    return path
