"""`make rehearsal`: a market's worth of everything at once, on one page.

A sandbox exchange at the market's size, a node of several workers, bots, pollers, pagers and a scraper, each a process
of its own on loopback. A backfill runs in the beginning; half-way through the writer is killed. It stops by itself.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import orjson
from rich.console import Console

from app.domain.interval import DAY_MS
from tests.programs.bench.figures import Figure, as_json, show
from tests.programs.bench.stage import cpu_s
from tests.programs.rehearsal import crowd, watch
from tests.programs.rehearsal.page import Notes, figures_of
from tests.programs.rehearsal.stage import SCRAPE_S, Size, Stage, staged
from tests.programs.soak.scrape import scraped
from tests.system.processes import ROOT, Program, pause, seconds

CROWD: Final = (sys.executable, "-m", "tests.programs.rehearsal.crowd")
WATCH: Final = (sys.executable, "-m", "tests.programs.rehearsal.watch")
KILL_AT: Final = 0.5  # of the rehearsal's time
WHOLE_S_MAX: Final = 240.0  # after the end: rows that the dead writer did not write cost weight, granted by the minute
MINUTES_MAX: Final = 240.0
BEGIN_S: Final = 40
"""Second of a minute at which a rehearsal begins. If it lasts whole minutes, the writer is then killed between two
closes. A starting process takes a core for a second, so the time of the kill affects what readers see of a close."""


@dataclass
class Outside:
    """The reading processes: the crowd and the watch."""

    stage: Stage
    programs: dict[str, Program] = field(default_factory=dict)

    def start(self) -> None:
        """Start the processes."""
        size, place, names = self.stage.size, self.stage.place, self.stage.market.names
        end_ms = self.stage.clock.now_ms() // DAY_MS * DAY_MS
        pagers = dict.fromkeys(names[: size.pagers], (end_ms - size.deep_days * DAY_MS, end_ms))
        watched = names[:: max(1, len(names) // size.watched)]
        tasks: dict[str, tuple[tuple[str, ...], msgspec.Struct]] = {
            "crowd": (CROWD, crowd.Task(place.port, size.shift_ms, names, pagers, size.herd, size.pollers)),
            "watch": (WATCH, watch.Task(place.port, size.shift_ms, size.symbols, watched)),
        }
        for name, (command, task) in tasks.items():
            file = place.programs.folder / f"{name}.json"
            file.write_bytes(msgspec.json.encode(task))
            self.programs[name] = place.programs.start(str(file), command=command, env={"PYTHONPATH": str(ROOT)})

    async def end(self) -> tuple[crowd.Result, list[watch.Seen]]:
        """End the processes and return their results."""
        for program in self.programs.values():
            program.signal(signal.SIGTERM)
        for program in self.programs.values():
            assert await program.ended() == 0, program.said()[-3000:]
        return (
            msgspec.json.decode(self.programs["crowd"].out.read_bytes(), type=crowd.Result),
            msgspec.json.decode(self.programs["watch"].out.read_bytes(), type=list[watch.Seen]),
        )


async def rehearse(folder: Path, size: Size) -> list[Figure]:
    """Run a rehearsal in an empty folder and return its figures."""
    async with staged(folder, size) as stage:
        began_s = seconds()
        await stage.warm()
        print(f"tails filled after {seconds() - began_s:.0f} s", flush=True)
        await stage.second()
        outside = Outside(stage)
        outside.start()
        print(f"everybody is there; {size.minutes:g} minutes from now on", flush=True)
        stage.exchange.signal(signal.SIGUSR1)
        began_s = seconds()
        cpu_before = {name: cpu_s(each) for name, each in (("exchange", stage.exchange), ("node", stage.node))}
        async with asyncio.TaskGroup() as group:
            scraper = group.create_task(stage.scrape_for_ever())
            await stage.backfill()
            await pause(KILL_AT * size.minutes * 60)
            sent, counted = await stage.frames()
            first_half_s = seconds() - began_s
            node_cpu_s = cpu_s(stage.node) - cpu_before["node"]
            await pause(SCRAPE_S)
            kill = await stage.kill_the_writer()
            print(f"the writer was killed; another holds the lease after {kill.lease_s:.1f} s", flush=True)
            await pause(max(0.0, began_s + size.minutes * 60 - seconds()))
            took_s = seconds() - began_s
            exchange_cpu_s = cpu_s(stage.exchange) - cpu_before["exchange"]
            read, seen = await outside.end()
            ended_s = seconds()
            missing = await stage.missing(WHOLE_S_MAX)
            whole_s = seconds() - ended_s
            weight = await stage.used_weight_max()
            scraper.cancel()
        stage.scrapes.append(await scraped(stage.place))
        stage.place.programs.forget()
    return figures_of(
        Notes(
            stage,
            kill,
            read,
            seen,
            sent=sent,
            counted=counted,
            first_half_s=first_half_s,
            node_cores=node_cpu_s / first_half_s,
            exchange_cores=exchange_cpu_s / took_s,
            missing=missing,
            whole_s=whole_s,
            weight=weight,
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse, print the page and write it as JSON; return exit status 1 when something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=Size.minutes)
    parser.add_argument("--symbols", type=int, default=Size.symbols)
    parser.add_argument("--workers", type=int, default=Size.workers)
    parser.add_argument("--burst", type=int, default=Size.burst, help="times the frames, after each close")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "rehearsal.json")
    wish = parser.parse_args(arguments)
    if not 0 < wish.minutes <= MINUTES_MAX or wish.workers < 2:
        parser.error(f"at most {MINUTES_MAX:g} minutes, and two workers at least: one of them is killed")
    size = Size(minutes=wish.minutes, symbols=wish.symbols, workers=wish.workers, burst=wish.burst, begin_s=BEGIN_S)
    loads, began_s = [os.getloadavg()], seconds()
    with tempfile.TemporaryDirectory(prefix="klinenode-rehearsal-") as folder, contextlib.suppress(KeyboardInterrupt):
        figures = asyncio.run(rehearse(Path(folder), size))
        loads.append(os.getloadavg())
        return finish(figures, size, loads, seconds() - began_s, wish.json)
    return 130


def finish(
    figures: Sequence[Figure], size: Size, loads: Sequence[tuple[float, float, float]], took_s: float, file: Path
) -> int:
    """Print the page and write the JSON file."""
    out = Console(width=180)
    title = f"{size.symbols} symbols × 7 intervals, {size.workers} workers, {size.minutes:g} minutes"
    show(figures, out, title=title)
    machine = (
        f"{os.cpu_count()} cores for node, exchange and everybody who reads; load average "
        f"{' → '.join(f'{load[0]:.1f}' for load in loads)}; {took_s:.0f} s in all"
    )
    out.print(machine)
    file.parent.mkdir(parents=True, exist_ok=True)
    report = {"title": title, "machine": machine, "figures": as_json(figures)}
    file.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    out.print(f"{file}")
    return int(any(figure.is_met is False for figure in figures if figure.part == "kept"))


if __name__ == "__main__":
    sys.exit(main())
