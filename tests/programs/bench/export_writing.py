"""Two programs that write the same rows to files and print how long it took: the command export, and bare pyarrow.

`python -m tests.programs.bench.export_writing ours DB_URL FOLDER FORMAT START_MS END_MS` exports all minutes;
`… bare FILE FOLDER TIMES` writes the table of a Parquet file, which is in memory, so many times, in two ways.
"""

import asyncio
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import orjson
import pyarrow.parquet
from rich.console import Console

from app import operate_export
from app.domain.interval import M1
from app.exporting.shapes import shape_of
from app.kinds.klines import KLINES
from app.node.stores import set_up_libraries
from app.operate import Target
from app.ports.export import FileKind, Format
from app.settings import load
from infra.exporting.arrow_files import parquet_options
from infra.exporting.columns import schema_of

OWN: Final = "pyarrow's own options"
SAME: Final = "the same options"


def ours(db_url: str, folder: Path, form: str, start_ms: int, end_ms: int) -> int:
    """Export, and return the number of rows."""
    set_up_libraries()
    settings = load({"db_url": db_url}, asks_exchange=False)
    symbols = tuple(sorted(path.name for path in folder.parent.glob("symbols/*")))
    wish = operate_export.wish_of(Target(symbols, (M1,), start_ms, end_ms), folder, form, "year", is_float=False)
    exported = asyncio.run(operate_export.export(settings, wish, Console(quiet=True)))
    assert not exported.missing, "the database holds every row"
    return exported.rows


def bare(table: pyarrow.Table, times: int, options: dict[str, Any], folder: Path) -> int:
    """Write a table again and again, and return the number of rows."""
    for number in range(times):
        pyarrow.parquet.write_table(table, folder / f"{number}.parquet", **options)
    return int(table.num_rows * times)


def measured(work: Callable[[Path], int], folder: Path) -> dict[str, Any]:
    """Write to an empty folder, and return the rows, what they took, and how large they are."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    began_s, began_cpu_s = perf_counter(), process_time()
    rows = work(folder)
    spent_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
    status = Path("/proc/self/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    size = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
    return {"rows": rows, "seconds": spent_s, "cpu_s": cpu_s, "peak_mb": peak_kb / 1024, "bytes": size}


def main() -> None:
    """Run one of the two programs and print its time as JSON."""
    which, source, target, *others = sys.argv[1:]
    if which == "ours":
        form, start_ms, end_ms = others
        found = measured(lambda folder: ours(source, folder, form, int(start_ms), int(end_ms)), Path(target))
    else:
        kind = FileKind(Format.PARQUET, shape_of(KLINES), is_float=False)
        table = pyarrow.parquet.read_table(source).cast(schema_of(kind.shape, is_float=False)).combine_chunks()
        ways: dict[str, dict[str, Any]] = {OWN: {}, SAME: parquet_options(kind)}
        found = {
            name: measured(partial(bare, table, int(others[0]), options), Path(target))
            for name, options in ways.items()
        }
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
