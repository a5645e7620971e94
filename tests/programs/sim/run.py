"""`make sim`: play seeds, each in a process of its own, and print what was simulated and which seeds failed.

SEEDS=200 SEED=1 VERBOSE=1 python -m tests.programs.sim.run
"""

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.postgres_server import PostgresServer
from tests.programs.sim.database_faults import with_database
from tests.programs.sim.on_postgres import Template
from tests.programs.sim.schedule import Plan, plan
from tests.programs.sim.world import Sim

SEED_CPU_S_MAX: Final = (
    180  # of processor time, so that other work on the machine ends no seed; a seed takes some seconds
)
SEED_S_MAX: Final = 3_600.0  # of real time: for a seed that waits for something that never happens
MEMORY: Final = Path("/dev/shm")
LINES_SHOWN: Final = 60  # last lines of a failing seed's log, without VERBOSE


@dataclass
class Outcome:
    """The result of one seed."""

    seed: int
    failures: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    deepest: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    digest: str = ""
    log: list[str] = field(default_factory=list)


def play(seed_plan: Plan, *, postgres: Template | None = None, verbose: bool = False) -> Outcome:
    """Play one seed in this process and return its result; `postgres`: on a copy of that database."""
    began_s = time.process_time()
    gc.collect()
    gc.disable()  # objects in cycles must not be finalized at times that differ between runs
    folder = Path(tempfile.mkdtemp(prefix="klinenode-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    sim = Sim(seed_plan, folder, postgres=postgres, verbose=print if verbose else None)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(sys.stderr if verbose else nowhere):
            sim.run()
    except Exception as error:  # noqa: BLE001  a seed that raises has failed
        sim.fail(f"{type(error).__name__}: {error}", error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(
        seed_plan.seed,
        sim.failures,
        dict(sim.counts),
        dict(sim.witness.deepest),
        sim.witness.requests,
        sim.loop.time(),
        time.process_time() - began_s,
        sim.digest,
        list(sim.lines)[-LINES_SHOWN:] if sim.failures else [],
    )


def drawn(seed: int, *, on_postgres: bool) -> Plan:
    """The plan of a seed; on Postgres its database has other faults."""
    return with_database(plan(seed)) if on_postgres else plan(seed)


class Child:
    """A running seed: a fork of this process, so that every seed starts from the same state."""

    def __init__(self, seed: int, *, postgres: Template | None, verbose: bool) -> None:
        self.seed = seed
        self._chunks: list[bytes] = []
        self.fd, write_fd = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.fd)
            _as_child(seed, write_fd, postgres=postgres, verbose=verbose)
        os.close(write_fd)

    def read(self) -> bool:
        """Read what the child writes; return False when it has ended."""
        chunk = os.read(self.fd, 1 << 16)
        self._chunks.append(chunk)
        return bool(chunk)

    def outcome(self) -> Outcome:
        """Return the child's result after it has ended; a crash counts as a failure."""
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        try:
            return Outcome(**json.loads(b"".join(self._chunks)))
        except ValueError:
            return Outcome(self.seed, [f"the process of the seed ended with {os.waitstatus_to_exitcode(status)}"])


def _as_child(seed: int, fd: int, *, postgres: Template | None, verbose: bool) -> None:
    bound()
    try:
        outcome = play(drawn(seed, on_postgres=postgres is not None), postgres=postgres, verbose=verbose)
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(json.dumps(vars(outcome)).encode())
        sys.stdout.flush()
    finally:
        os._exit(0)  # `finally` blocks of the killed processes must not run


def bound(cpu_s: int = SEED_CPU_S_MAX) -> None:
    """End this process with a traceback once it has used `cpu_s` seconds of processor time, or run for `SEED_S_MAX`."""
    faulthandler.register(signal.SIGXCPU, chain=True)  # the default action, which comes after it, ends the process
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    faulthandler.dump_traceback_later(SEED_S_MAX, exit=True)


def play_all(
    seeds: range, jobs: int, *, postgres: Template | None = None, verbose: bool = False, say: Any = print
) -> list[Outcome]:
    """Play `seeds`, `jobs` at a time; return their results."""
    waiting = iter(seeds)
    outcomes: list[Outcome] = []
    under_way: dict[int, Child] = {}
    with selectors.DefaultSelector() as selector:
        while True:
            while len(under_way) < jobs and (seed := next(waiting, None)) is not None:
                sys.stdout.flush()
                child = Child(seed, postgres=postgres, verbose=verbose)
                under_way[child.fd] = child
                selector.register(child.fd, selectors.EVENT_READ)
            if not under_way:
                return outcomes
            for key, _ in selector.select():
                child = under_way[key.fd]
                if child.read():
                    continue
                selector.unregister(key.fd)
                del under_way[key.fd]
                outcomes.append(child.outcome())
                _tell(outcomes[-1], len(outcomes), len(seeds), " STORE=postgres" if postgres else "", say)


def _tell(outcome: Outcome, done: int, total: int, store: str, say: Any) -> None:
    if outcome.failures:
        say(f"\nseed {outcome.seed} FAILED; replay it: make sim SEED={outcome.seed} SEEDS=1 VERBOSE=1{store}")
        for failure in outcome.failures[:10]:
            say(f"  {failure}")
    if done % max(1, total // 20) == 0:
        say(f"{done} of {total} seeds")


def summary(outcomes: list[Outcome], wall_s: float) -> str:
    """Format the totals of all seeds as text."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    deepest = {name: max(outcome.deepest.get(name, 0) for outcome in outcomes) for name in outcomes[0].deepest}
    virtual_s = sum(outcome.virtual_s for outcome in outcomes)
    cpu_s = sum(outcome.cpu_s for outcome in outcomes)
    bad = sorted(outcome.seed for outcome in outcomes if outcome.failures)

    def of(prefix: str) -> str:
        chosen = {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}
        return ", ".join(f"{name} {chosen[name]}" for name in sorted(chosen))

    return "\n".join(
        [
            f"{len(outcomes)} seeds, {virtual_s / 3600:.1f} simulated hours in {wall_s:.0f} s",
            f"{virtual_s / wall_s:.0f} × real time, {cpu_s / len(outcomes):.2f} s of CPU a seed",
            f"faults: {sum(n for name, n in counts.items() if name.startswith('fault '))}: {of('fault ')}",
            f"kills: {counts['killed']}; upstream requests: {sum(outcome.requests for outcome in outcomes)}",
            f"answers by status: {of('answer ')}",
            f"events: {of('event ')}",
            "deepest: " + ", ".join(f"{name} {number}" for name, number in deepest.items()),
            f"failed seeds: {len(bad)} {bad[:50] if bad else ''}",
        ]
    )


def main() -> int:
    """Play the seeds that the command line names."""
    parser = argparse.ArgumentParser(description="Plays seeds of the simulation.")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--verbose", action="store_true", help="print plan and log")
    parser.add_argument("--json", help="write the outcomes to this file")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    asked = parser.parse_args()
    if sys.flags.hash_randomization:  # sets of strings must iterate in the same order in every replay
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.programs.sim.run", *sys.argv[1:]],
            {**_environment(), "PYTHONHASHSEED": "0"},
        )
    if asked.verbose:
        print(drawn(asked.seed, on_postgres=asked.store == "postgres"))
    seeds = range(asked.seed, asked.seed + asked.seeds)
    with contextlib.ExitStack() as stack:
        template = None
        if asked.store == "postgres":
            template = asyncio.run(Template.made(stack.enter_context(PostgresServer())))
        began_s = time.monotonic()
        outcomes = play_all(seeds, asked.jobs, postgres=template, verbose=asked.verbose)
    print(summary(outcomes, time.monotonic() - began_s))
    if asked.json:
        Path(asked.json).write_text(json.dumps([vars(outcome) for outcome in outcomes]))
    return int(any(outcome.failures for outcome in outcomes))


def _environment() -> dict[str, str]:
    return dict(os.environ)  # noqa: TID251  passed on unchanged


if __name__ == "__main__":
    sys.exit(main())
