"""Two programs that write the same rows to files and print how long it took: the command export, and bare pyarrow.

`python -m tests.programs.bench.export_writing ours DB_URL FOLDER FORMAT START_MS END_MS` exports all minutes;
`… bare FILE FOLDER TIMES OPTIONS` writes the table of a Parquet file, which is in memory, so many times.
"""

import asyncio
import shutil
import sys
from pathlib import Path
from time import perf_counter, process_time

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

SAME = "same"
"""The word for our options; otherwise they are pyarrow's own."""


def ours(db_url: str, folder: Path, form: str, start_ms: int, end_ms: int) -> int:
    """Export, and return the number of rows."""
    set_up_libraries()
    settings = load({"db_url": db_url}, asks_exchange=False)
    symbols = tuple(sorted(path.name for path in folder.parent.glob("symbols/*")))
    wish = operate_export.wish_of(Target(symbols, (M1,), start_ms, end_ms), folder, form, "year", False)
    exported = asyncio.run(operate_export.export(settings, wish, Console(quiet=True)))
    assert not exported.missing, "the database holds every row"
    return exported.rows


def bare(table: pyarrow.Table, folder: Path, times: int, options: str) -> int:
    """Write a table again and again, and return the number of rows."""
    kind = FileKind(Format.PARQUET, shape_of(KLINES), is_float=False)
    for number in range(times):
        path = folder / f"{number}.parquet"
        if options == SAME:
            pyarrow.parquet.write_table(table, path, **parquet_options(kind))
        else:
            pyarrow.parquet.write_table(table, path)
    return int(table.num_rows * times)


def main() -> None:
    """Run one of the two programs and print its time as JSON."""
    which, source, target, *others = sys.argv[1:]
    folder = Path(target)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if which == "bare":
        schema = schema_of(shape_of(KLINES), is_float=False)
        table = pyarrow.parquet.read_table(source).cast(schema).combine_chunks()
    began_s, began_cpu_s = perf_counter(), process_time()
    if which == "bare":
        rows = bare(table, folder, int(others[0]), others[1])
    else:
        rows = ours(source, folder, others[0], int(others[1]), int(others[2]))
    spent_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
    status = Path("/proc/self/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    size = sum(path.stat().st_size for path in folder.rglob("*.*") if path.is_file())
    found = {"rows": rows, "seconds": spent_s, "cpu_s": cpu_s, "peak_mb": peak_kb / 1024, "bytes": size}
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
