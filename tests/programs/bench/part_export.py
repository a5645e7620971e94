"""Part 12: ten million rows of mixed symbols to files, against bare pyarrow writing the same table from columns."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson

from app.domain.block_grid import block_span
from app.domain.interval import DAY_MS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.series import Series
from app.exporting.shapes import lines_of_array, shape_of
from app.kinds.klines import KLINES
from app.node.stores import store_of
from app.ports.export import FileKind, Format, Lines
from infra.blocks.block import pack
from infra.exporting.arrow_files import ParquetFile
from infra.sqlite.library import sqlite3
from infra.sqlite.sealed import insert_block
from tests.programs.bench.export_writing import OWN, SAME
from tests.programs.bench.figures import Figure, alternating, compared
from tests.programs.bench.market import Market
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.stage import NOW_MS, Run
from tests.system.processes import ROOT, Programs

PART: Final = "export"
SYMBOLS: Final = 20
ROUNDS_MAX: Final = 3
TABLE: Final = "table.parquet"
PATIENCE_S: Final = 900.0
PEAK_MB_MAX: Final = 300
BEGIN_MS: Final = 1_735_689_600_000  # 2025-01-01: a file has a whole year, or the part of it that is measured


async def measure(run: Run) -> None:
    """Export to Parquet and write the same table with pyarrow by turns; then Arrow and CSV once."""
    folder = run.folder / "export"
    folder.mkdir()
    db_url = f"sqlite:///{folder / 'held.db'}"
    days = run.size.export_days
    await store_of(db_url).prepare(db_url)
    _fill(run, folder, days)
    end_ms = BEGIN_MS + days * DAY_MS
    async with Programs(run.folder) as programs:

        async def written(*words: str) -> dict[str, Any]:
            return await _measured(programs, words)

        async def ours(form: Format = Format.PARQUET) -> dict[str, Any]:
            return await written("ours", db_url, str(folder / "ours"), form, str(BEGIN_MS), str(end_ms))

        async def limits() -> dict[str, Any]:
            return await written("bare", str(folder / TABLE), str(folder / "bare"), str(SYMBOLS))

        pairs = await alternating(min(run.size.rounds, ROUNDS_MAX), ours, limits)
        for name, floor in ((OWN, 0.8), (SAME, None)):
            _add(run, f"to Parquet, limit: bare pyarrow, {name}", [(mine, them[name]) for mine, them in pairs], floor)
        peak_mb = max(mine["peak_mb"] for mine, _ in pairs)
        run.figures.append(Figure(PART, "peak of memory", "MB", peak_mb, floor=PEAK_MB_MAX, is_cost=True))
        for form in (Format.ARROW, Format.CSV):
            each = await ours(form)
            note = f"{each['bytes'] / each['rows']:.0f} bytes a row, {each['peak_mb']:.0f} MB"
            run.figures.append(Figure(PART, f"to {form}", "rows/s", each["rows"] / each["seconds"], note=note))


def _add(run: Run, name: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]], floor: float | None) -> None:
    sizes = [f"{each['bytes'] / each['rows']:.0f}" for each in pairs[0]]
    note = f"{pairs[0][0]['rows']:,} rows; bytes a row {sizes[0]}, limit {sizes[1]}"
    rates = [(_rate(mine, "seconds"), _rate(theirs, "seconds")) for mine, theirs in pairs]
    run.figures.append(compared(PART, name, "rows/s", rates, floor=floor, note=note))
    per_cpu = [(_rate(mine, "cpu_s"), _rate(theirs, "cpu_s")) for mine, theirs in pairs]
    run.figures.append(compared(PART, name, "rows/s of CPU", per_cpu))


def _rate(found: dict[str, Any], unit: str) -> float:
    return float(found["rows"] / found[unit])


def _fill(run: Run, folder: Path, days: int) -> None:
    """Seal the same minutes of the sandbox for every symbol, and write them to a table for bare pyarrow.

    Packing them once takes a twentieth of the time.
    """
    material = Market(PinnedClock.made(run.folder / "export-clock", NOW_MS), SYMBOLS, run.size.material_rows).material
    kind = FileKind(Format.PARQUET, shape_of(KLINES), is_float=False)
    table, first = ParquetFile(folder / TABLE, kind), Series(KLINES, "COIN0USDT", M1)
    blocks = []
    for day in range(days):
        opens_ms = range(BEGIN_MS + day * DAY_MS, BEGIN_MS + (day + 1) * DAY_MS, MINUTE_MS)
        rows = [_printed(material, open_ms) for open_ms in opens_ms]
        blocks.append(pack(rows, opens_ms, block_span(M1, opens_ms[0]), MINUTE_MS))
        table.write(first, Lines(len(rows), lines_of_array(b"[" + b",".join(rows) + b"]"), kind.shape))
    table.close()
    (folder / "symbols").mkdir()
    with closing(sqlite3.connect(folder / "held.db", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for number in range(SYMBOLS):
            series = Series(KLINES, f"COIN{number}USDT", M1)
            (folder / "symbols" / series.name).touch()
            for block in blocks:
                insert_block(connection, series, block)
            values = (series.name, M1.code, BEGIN_MS, BEGIN_MS + days * DAY_MS, "rest")
            columns = "symbol, interval, start_ms, end_ms, source"
            connection.execute(f"INSERT INTO ledger ({columns}) VALUES (?, ?, ?, ?, ?)", values)
        connection.execute("COMMIT")


def _printed(material: list[Kline], open_ms: int) -> bytes:
    row = material[open_ms // MINUTE_MS % len(material)]._replace(open_ms=open_ms)
    return KLINES.encode(row, open_ms + MINUTE_MS - 1)


async def _measured(programs: Programs, words: tuple[str, ...]) -> dict[str, Any]:
    command = (sys.executable, "-m", "tests.programs.bench.export_writing")
    program = programs.start(*words, command=command, cwd=ROOT)
    status = await program.ended(PATIENCE_S)
    assert status == 0, program.said()[-2000:]
    programs.forget()
    found: dict[str, Any] = orjson.loads(program.out.read_bytes())
    return found
