"""`make collect-truth`: does the collector's stream hold what really happened, whatever goes wrong on the way?

A sandbox of three exchanges, a real NATS server and `klinenode collect`, each a process on loopback. In the order of a
seed sockets are cut and silent, frames are missing and repeated, books are reset, requests fail, and NATS and the
collector are killed. At the end a reader of plain nats-py compares everything with the sandbox's truth.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console

from tests.programs.bench.figures import Figure, as_json, show
from tests.programs.collect_truth.mishaps import mishaps
from tests.programs.collect_truth.page import figures_of
from tests.programs.collect_truth.stage import Stage, staged
from tests.system.exchange_truth import Verdict
from tests.system.processes import ROOT, pause, seconds

MINUTES: Final = 30.0
MINUTES_MAX: Final = 240.0
RATE: Final = 40.0  # trades a second of each instrument of OKX and Deribit: a lively day's average of the busiest
WARM_S: Final = 20.0  # of an outage's run, before it
SHOWN: Final = 20  # faults that are printed


async def run(
    folder: Path, minutes: float, rate: float, seed: int, outage_minutes: float
) -> tuple[Verdict, list[Figure]]:
    """Run for so many minutes, or through one outage of NATS, and compare; the folder is empty."""
    async with staged(folder, seed, rate) as stage:
        print(f"the collector follows three exchanges in {folder}", flush=True)
        if outage_minutes:
            await pause(WARM_S)
            await stage.outage(outage_minutes * 60)
        else:
            await _mishaps(stage, minutes, seed)
        print("calm; then everything is compared", flush=True)
        collected, verdict = await stage.end()
        return verdict, figures_of(stage, collected, verdict)


async def _mishaps(stage: Stage, minutes: float, seed: int) -> None:
    end_s = seconds() + minutes * 60
    for mishap in mishaps(seed):
        if seconds() + mishap.pause_s > end_s:
            break
        await pause(mishap.pause_s)
        print(f"{end_s - seconds():6.0f} s left: {mishap.name} {mishap.fault.get('venue', '')}", flush=True)
        await stage.suffer(mishap)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the page and write it as JSON; return exit status 1 when something was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--rate", type=float, default=RATE, help="trades a second of each instrument")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outage-minutes", type=float, default=0.0, help="instead of mishaps: so long without NATS")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "collect-truth.json")
    wish = parser.parse_args(arguments)
    if not 0 < wish.minutes <= MINUTES_MAX or not 0 <= wish.outage_minutes <= MINUTES_MAX:
        parser.error(f"at most {MINUTES_MAX:g} minutes")
    began_s = seconds()
    with tempfile.TemporaryDirectory(prefix="klinenode-truth-") as folder, contextlib.suppress(KeyboardInterrupt):
        verdict, figures = asyncio.run(run(Path(folder), wish.minutes, wish.rate, wish.seed, wish.outage_minutes))
        kind = f"{wish.outage_minutes:g} minutes without NATS" if wish.outage_minutes else f"{wish.minutes:g} minutes"
        title = f"the collector against the truth: {kind}, {wish.rate:g} trades/s an instrument, seed {wish.seed}"
        return finish(title, verdict, figures, seconds() - began_s, wish.json)
    return 130


def finish(title: str, verdict: Verdict, figures: Sequence[Figure], took_s: float, file: Path) -> int:
    """Print the page and write the JSON file."""
    out = Console(width=150)
    show(figures, out, title=title)
    for fault in verdict.faults[:SHOWN]:
        out.print(f"FAULT {fault}", markup=False)
    machine = f"{os.cpu_count()} cores for all processes; load average {os.getloadavg()[0]:.1f}; {took_s:.0f} s in all"
    out.print(machine)
    file.parent.mkdir(parents=True, exist_ok=True)
    report = {"title": title, "machine": machine, "figures": as_json(figures), "faults": verdict.faults[:1_000]}
    file.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    out.print(f"{file}")
    return int(bool(verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
