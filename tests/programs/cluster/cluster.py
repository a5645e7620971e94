"""`make cluster`: two nodes, Postgres with a replica, Redis and nginx under load, and one fault after the other.

Each fault is a row of a table. In the end the whole database is compared with the exchange. It stops by itself.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from app.domain.interval import MINUTE_MS
from tests.programs.cluster.faults import FAULTS, Fault
from tests.programs.cluster.load import ANSWERED, FAILED, REFUSED, WRONG
from tests.programs.cluster.stage import DATABASE, Cluster, staged
from tests.programs.cluster.verdict import Verdict, compare
from tests.programs.cluster.watch import Commits
from tests.system.processes import pause, seconds, until

RATE: Final = 20.0  # requests a second: what two cores have time for beside seven servers
MINUTES: Final = 4.0
MINUTES_MAX: Final = 240.0
TAKE_OVER_S_MAX: Final = 5.0  # the floor
LEASE_S_MAX: Final = 30.0  # after which a fault counts as not survived
WELL_S_MAX: Final = 60.0
COMMIT_S_MAX: Final = 90.0  # a minute, and the time of a commit
BEFORE_CLOSE_S: Final = (0.5, 4.0)
QUIET_S: Final = 12.0  # longer than a fault that comes between closes takes, and less than the time before one


@dataclass
class Row:
    """One fault and what came of it; times in seconds by `seconds`."""

    fault: Fault
    began_s: float
    minute_ms: int
    """The minute that was in progress as it began."""
    closes_s: float
    away_s: float = 0.0
    lease_s: float | None = None
    well_s: float | None = None
    ended_s: float = 0.0
    epochs: tuple[int, int] = (0, 0)


@dataclass
class Run:
    """The run of one seed."""

    cluster: Cluster
    chance: random.Random
    faults: Sequence[Fault] = FAULTS
    rows: list[Row] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    commits: Commits = field(default_factory=lambda: Commits(0, 0, 0))

    async def run(self, minutes: float) -> None:
        """Let every fault happen, again if that takes no longer than `minutes`, and compare the database."""
        await until(self.cluster.are_well, "everybody is well", WELL_S_MAX)
        began_s, rounds = seconds(), 0
        while not rounds or (seconds() - began_s) * (rounds + 1) / rounds <= minutes * 60:
            rounds += 1
            at_closes = [fault for fault in self.faults if fault.is_of_the_writer]
            between = [fault for fault in self.faults if not fault.is_of_the_writer]
            self.chance.shuffle(at_closes)
            self.chance.shuffle(between)
            while at_closes or between:
                before_s = self.chance.uniform(*BEFORE_CLOSE_S)
                if between and (not at_closes or self._to_close_s() > between[0].lasts_s + QUIET_S):
                    await self._strike(between.pop())
                    continue
                await pause((self._to_close_s() - before_s) % 60)
                await self._strike(at_closes.pop())
        await self._end()

    def _to_close_s(self) -> float:
        return (-self.cluster.sandbox.exchange.clock.now_ms() % MINUTE_MS) / 1000

    async def _strike(self, fault: Fault) -> None:
        watch, now_ms = self.cluster.watch, self.cluster.sandbox.exchange.clock.now_ms()
        before = watch.last
        row = Row(fault, seconds(), now_ms // MINUTE_MS * MINUTE_MS, seconds() + self._to_close_s())
        self.rows.append(row)
        mend = await fault.begin(self.cluster)
        row.away_s = seconds() - row.began_s if fault.is_of_the_server else 0.0

        async def is_held_again() -> bool:
            return watch.last.session not in (None, before.session)

        if fault.is_of_the_writer or fault.is_of_the_server:
            with contextlib.suppress(AssertionError):
                await until(is_held_again, "the lease is held again", LEASE_S_MAX)
                row.lease_s = watch.last.at_s - row.began_s
        await pause(max(0.0, row.began_s + fault.lasts_s - seconds()))
        await mend()
        mended_s = seconds()
        with contextlib.suppress(AssertionError):
            await until(self.cluster.are_well, "both nodes are well", WELL_S_MAX)
            row.well_s = seconds() - mended_s
        row.ended_s = seconds()
        row.epochs = (before.epoch, watch.last.epoch)
        print(f"{fault.name}: lease {_text(row.lease_s)}, after it was mended well {_text(row.well_s)}", flush=True)

    async def _end(self) -> None:
        last = self.rows[-1].minute_ms

        async def is_committed() -> bool:
            return self.cluster.watch.committed_s(last) is not None

        await until(is_committed, "the minute of the last fault is committed", COMMIT_S_MAX)
        self.cluster.load.is_over = True
        for node in self.cluster.nodes:
            await until(node.place.is_whole, "no kline is missing", WELL_S_MAX)
        self.commits = await self.cluster.watch.commits()
        self.verdict = await compare(self.cluster.primary.url(DATABASE), self.cluster.sandbox.exchange)

    # --- judging -------------------------------------------------------------------------------------------------

    def committed_s(self, row: Row) -> float:
        """How long after fault and close the minute of the fault was committed."""
        found_s = self.cluster.watch.committed_s(row.minute_ms)
        assert found_s is not None, "the run has waited for it"
        return found_s - max(row.began_s, row.closes_s)

    def broken(self) -> list[str]:
        """The promises that were broken."""
        found = [f"{each.fault.name}: {why}" for each in self.rows if (why := self._broken(each))]
        if self.commits.trespasses:
            found.append(f"{self.commits.trespasses} commits of a writer that was deposed")
        if not self.verdict.is_good:
            found.append(f"the database is not the exchange's: {self.verdict}")
        return found + self.cluster.load.wrong

    def _broken(self, row: Row) -> str:
        loses_lease = row.fault.is_of_the_writer or row.fault.is_of_the_server
        if row.well_s is None:
            return f"not everybody is well {WELL_S_MAX:g} s after it was mended"
        if loses_lease and (row.lease_s is None or row.lease_s - row.away_s > TAKE_OVER_S_MAX):
            return f"nobody held the lease within {TAKE_OVER_S_MAX:g} s"
        if not loses_lease and row.epochs[0] != row.epochs[1]:
            return "the writer changed for nothing"
        if self.cluster.watch.holders_max(row.began_s, row.ended_s) > 1:
            return "two sessions held the lease"
        return ""


def _text(time_s: float | None) -> str:
    return "–" if time_s is None else f"{time_s:.1f} s"


def show(run: Run, out: Console) -> None:
    """Print the table."""
    table = Table(title="one fault after the other, under load", title_justify="left")
    heads = ("lease", "next minute", "well again", "answered", "503", "failed", "longest gap", "epoch", "say: write")
    table.add_column("fault", overflow="fold")
    for name in heads:
        table.add_column(name, justify="right")
    load, watch = run.cluster.load, run.cluster.watch
    for row in run.rows:
        asked = load.between(row.began_s, row.ended_s)
        away = f" ({row.away_s:.1f} away)" if row.fault.is_of_the_server else ""
        table.add_row(
            row.fault.name,
            _text(row.lease_s) + away,
            f"{run.committed_s(row):.1f} s",
            _text(row.well_s),
            *(str(asked.counts[outcome]) for outcome in (ANSWERED, REFUSED, FAILED)),
            f"{asked.gap_s:.2f} s",
            f"{row.epochs[0]} → {row.epochs[1]}",
            str(watch.claims_max(row.began_s, row.ended_s)),
        )
    out.print(table)
    out.print("lease: from the fault until another session holds it. next minute: from fault and close to its commit.")
    for kind, (counts, times_ms) in load.by_kind().items():
        p50, p99 = (times_ms[int(len(times_ms) * part)] if times_ms else 0.0 for part in (0.5, 0.99))
        numbers = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (ANSWERED, REFUSED, FAILED, WRONG))
        out.print(f"{kind}: {numbers}; p50 {p50:.1f} ms, p99 {p99:.0f} ms, slowest {max(times_ms, default=0.0):.0f} ms")
    for reason, count in load.reasons.most_common(12):
        out.print(f"  {count} × {reason}", markup=False)
    found, done = run.verdict, run.commits
    out.print(
        f"commits: {done.number} in {done.writers} epochs, {done.trespasses} by a writer that was deposed\n"
        f"database: {found.rows} rows; {found.lost} lost, {found.doubled} doubled, {found.wrong} wrong"
    )
    for each in run.broken():
        out.print(f"BROKEN {each}", markup=False)


async def _main(folder: Path, seed: int, minutes: float, rate: float, only: str) -> int:
    print(f"seed {seed}; again: make cluster SEED={seed}; starting everything", flush=True)
    loads, began_s = [os.getloadavg()[0]], seconds()
    async with staged(folder, seed, rate) as cluster:
        print(f"everybody is there after {seconds() - began_s:.0f} s", flush=True)
        run = Run(cluster, random.Random(seed), [fault for fault in FAULTS if only in fault.name])
        await run.run(minutes)
        loads.append(os.getloadavg()[0])
        show(run, Console(width=180))
        machine = f"load average {' → '.join(f'{load:.1f}' for load in loads)}; {rate:g} requests a second"
        print(f"seed {seed}; {os.cpu_count()} cores for everybody; {machine}; {seconds() - began_s:.0f} s in all")
        return int(bool(run.broken()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return exit status 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="one round of faults, and more if they fit")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--only", default="", help="the faults with this in their names")
    wish = parser.parse_args(arguments)
    if not any(wish.only in fault.name for fault in FAULTS):
        parser.error(f"the faults are: {', '.join(fault.name for fault in FAULTS)}")
    if not 0 < wish.minutes <= MINUTES_MAX or wish.rate <= 0:
        parser.error(f"at most {MINUTES_MAX:g} minutes, and a rate above zero")
    folder = Path(tempfile.mkdtemp(prefix="klinenode-cluster-"))
    status = 1
    try:
        status = asyncio.run(_main(folder, wish.seed, wish.minutes, wish.rate, wish.only))
    except KeyboardInterrupt:
        status = 130
    except pytest.skip.Exception as error:
        print(error.msg, file=sys.stderr)
        status = 2
    finally:
        if status in (0, 2, 130):
            shutil.rmtree(folder)
        else:
            print(f"the files are in {folder}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
