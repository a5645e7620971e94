"""`make bench`: every path against its own limit of the same run; a table, bench/latest.json and bench/latency.svg."""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from tests.programs.bench import (
    part_backfill,
    part_batch,
    part_cold,
    part_collector,
    part_export,
    part_http,
    part_ingest,
    part_metrics,
    part_nginx,
    part_nodes,
    part_postgres,
    part_streams,
    part_tail,
)
from tests.programs.bench.figures import as_json, show
from tests.programs.bench.load import WRK
from tests.programs.bench.plot import svg
from tests.programs.bench.stage import FULL, TINY, Run, Size, staged
from tests.system.processes import ROOT, seconds

OUT: Final = ROOT / "bench"
STAGED: Final = {
    "http": part_http.measure,
    "nginx": part_nginx.measure,
    "batch": part_batch.measure,
    "tail": part_tail.measure,
    "cold": part_cold.measure,
}
"""Parts that are measured on one stage, in this order."""
ALONE: Final = {
    "ingest": part_ingest.measure,
    "backfill": part_backfill.measure,
    "metrics": part_metrics.measure,
    "streams": part_streams.measure,
    "postgres": part_postgres.measure,
    "nodes": part_nodes.measure,
    "collector": part_collector.measure,
    "export": part_export.measure,
}
PARTS: Final = (*STAGED, *ALONE)


async def measure(run: Run, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """Measure `parts` in the table's order, those that share a stage together."""
    on_stage = [name for name in STAGED if name in parts]
    if on_stage:
        say(f"a database of {run.size.symbols} symbols …")
        async with staged(run) as stage:
            await part_cold.until_sealed(stage)
            for name in on_stage:
                say(f"{name} …")
                await STAGED[name](stage)
    for name in ALONE:
        if name in parts:
            say(f"{name} …")
            await ALONE[name](run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts named on the command line, print the table and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="", help=f"which of {','.join(PARTS)}; all without it")
    parser.add_argument("--rounds", type=int, default=FULL.rounds)
    parser.add_argument("--seconds", type=float, default=FULL.seconds, help="of one measurement")
    parser.add_argument("--tiny", action="store_true", help="show that it works; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    wish = parser.parse_args(arguments)
    parts = [part for part in wish.parts.split(",") if part] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {sorted(unknown)}; there are {', '.join(PARTS)}")
    size = TINY if wish.tiny else replace(FULL, rounds=wish.rounds, seconds=wish.seconds)
    out = Console(width=180)
    with tempfile.TemporaryDirectory(prefix="klinenode-bench-") as folder:
        run = Run(size, Path(folder))
        began_s, load_before = seconds(), os.getloadavg()
        asyncio.run(measure(run, parts, out.print))
    finish(run, wish.out, size, (load_before, os.getloadavg()), seconds() - began_s, out)


def finish(
    run: Run,
    folder: Path,
    size: Size,
    loads: tuple[tuple[float, float, float], tuple[float, float, float]],
    took_s: float,
    out: Console,
) -> None:
    """Print the table and write bench/latest.json and bench/latency.svg."""
    show(run.figures, out)
    generator = "wrk" if WRK else "its own generator (install wrk for a cheaper one)"
    machine = (
        f"{os.cpu_count()} cores, shared by servers and load ({generator}); load average {loads[0][0]:.1f} before, "
        f"{loads[1][0]:.1f} after; {size.rounds} rounds; {took_s:.0f} s"
    )
    for note in (machine, *run.notes):
        out.print(note)
    folder.mkdir(exist_ok=True)
    report = {"machine": machine, "notes": run.notes, "figures": as_json(run.figures)}
    (folder / "latest.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    (folder / "latency.svg").write_text(svg(run.curves))
    out.print(f"{folder / 'latest.json'}, {folder / 'latency.svg'}")


if __name__ == "__main__":
    main()
