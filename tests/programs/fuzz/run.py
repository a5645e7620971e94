"""The long fuzz runs: every decoder gets `--runs` inputs, a node `--cases` requests and `--stalls` peers that stall.

`--input FILE --target NAME` runs one input again, with its traceback.
"""

import argparse
import asyncio
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, STDOUT
from subprocess import run as run_process
from typing import Final

from tests.programs.fuzz import mutate, seeds
from tests.programs.fuzz.targets import TARGETS, Target

ROOT: Final = Path(__file__).parents[3]
FINDINGS: Final = ROOT / ".fuzz"  # corpora and failing inputs, kept between runs, never committed
RECORDED: Final = ROOT.parent / "shared" / "realdata"
HAS_ATHERIS: Final = find_spec("atheris") is not None
RUNS: Final = 100_000
INPUT_S_MAX: Final = 10  # libFuzzer's limit for one input: what takes longer hangs
RSS_MB_MAX: Final = 1_024
_COVER: Final = re.compile(r"cov: (\d+)")
_DONE: Final = re.compile(r"Done (\d+) runs in (\d+) second")
_COUNTED: Final = re.compile(r"^#(\d+)\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """The result for one target."""

    name: str
    executions: int
    seconds: float
    cover: str
    failure: Path | None
    log: str


def samples(target: Target) -> list[bytes]:
    """The samples of a target, including recorded ones where there are any."""
    return [*target.seeds(), *seeds.recorded(RECORDED).get(target.name, [])]


def fuzz(target: Target, runs: int, seconds_max: int, seed: int) -> Result:
    """Give `target` `runs` inputs, guided by coverage where atheris is installed."""
    folder = FINDINGS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if not HAS_ATHERIS:
        hunted = mutate.hunt(target.run, samples(target), target.dictionary, runs, seed)
        path = folder / f"crash-{seed}" if hunted.failure else None
        if path is not None and hunted.failure is not None:
            path.write_bytes(hunted.failure.data)
        return Result(target.name, hunted.executions, time.monotonic() - began, "no atheris", path, "")
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, sample in enumerate(samples(target)):
        (corpus / f"sample-{number}").write_bytes(sample)
    known = set(folder.glob("crash-*")) | set(folder.glob("timeout-*")) | set(folder.glob("oom-*"))
    done = run_process(
        [
            sys.executable, "-m", "tests.programs.fuzz.worker", target.name, str(corpus),
            f"-runs={runs}", f"-seed={seed}",
            f"-max_total_time={seconds_max}", f"-timeout={INPUT_S_MAX}", f"-rss_limit_mb={RSS_MB_MAX}",
            f"-max_len={mutate.SIZE_MAX}", f"-artifact_prefix={folder}/", "-print_final_stats=0",
        ],
        stdout=PIPE, stderr=STDOUT, text=True, errors="replace", cwd=ROOT,
    )  # fmt: skip
    said = done.stdout
    counts = _DONE.search(said) or (None, *(_COUNTED.findall(said)[-1:] or ["0"]))
    found = (set(folder.glob("crash-*")) | set(folder.glob("timeout-*")) | set(folder.glob("oom-*"))) - known
    failure = min(found, default=folder if done.returncode else None)
    covers = _COVER.findall(said)
    cover = f"{covers[-1]} branches" if covers else "–"
    log = said[-4_000:] if failure else ""
    return Result(target.name, int(str(counts[1])), time.monotonic() - began, cover, failure, log)


def decoders(names: Sequence[str], runs: int, seconds_max: int, seed: int) -> bool:
    """Fuzz targets concurrently, one process each; print a table and return whether none failed."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(lambda name: fuzz(TARGETS[name], runs, seconds_max, seed), names))
    print(f"{'target':<18}{'executions':>12}{'seconds':>9}{'per second':>12}  coverage")
    for result in results:
        rate = result.executions / max(result.seconds, 0.001)
        print(f"{result.name:<18}{result.executions:>12,}{result.seconds:>9.1f}{rate:>12,.0f}  {result.cover}")
    print(f"{'all':<18}{sum(result.executions for result in results):>12,}")
    for result in results:
        if result.failure is not None:
            again = ["python", "-m", "tests.programs.fuzz.run", "--target", result.name, "--input", str(result.failure)]
            print(f"\n{result.name} FAILED; run the input again: {shlex.join(again)}\n{result.log}")
    return all(result.failure is None for result in results)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names; return exit status 1 if something was found."""
    parser = argparse.ArgumentParser(prog="tests.programs.fuzz.run", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="inputs for each decoder; 0 leaves them out")
    parser.add_argument("--cases", type=int, default=0, help="requests to a node, judged by oracle and description")
    parser.add_argument("--stalls", type=int, default=0, help="peers that stall, each phase of a connection in turn")
    parser.add_argument("--seconds", type=int, default=3_600, help="at most so long for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="only these decoders")
    parser.add_argument("--input", type=Path, help="one input to run again")
    asked = parser.parse_args(arguments)
    names = asked.target or list(TARGETS)
    if asked.input is not None:
        data = asked.input.read_bytes()
        print(f"{data!r:.2000}\naccepted: {TARGETS[names[0]].run(data)}")
        return 0
    is_fine = not asked.runs or decoders(names, asked.runs, asked.seconds, asked.seed)
    if asked.cases:
        requests(asked.cases, asked.seed)
    if asked.stalls:
        stalls(asked.stalls, asked.seed)
    return 0 if is_fine else 1


def requests(cases: int, seed: int) -> None:
    """Send `cases` requests to a node, most about windows; raise the first wrong answer in its smallest form."""
    from tests.http.schema_cases import ask_by_schema
    from tests.http.window_cases import ask_windows

    by_schema = max(100, cases // 10)
    for kind, share in ((ask_windows, max(100, cases - by_schema)), (ask_by_schema, by_schema)):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            counts = asyncio.run(kind(Path(folder), share, seed))
        print(f"{kind.__name__}: {share:,} questions in {time.monotonic() - began:.0f} s, no wrong answer")
        for name, count in sorted(counts.items()):
            print(f"  {count:>9,}  {name}")


def stalls(cases: int, seed: int) -> None:
    """Have `cases` peers stall; raise for the first that the server does not end, or that leaves something behind."""
    from tests.programs.fuzz.stalls import stall_everywhere

    began = time.monotonic()
    counts = asyncio.run(stall_everywhere(cases, seed))
    print(f"stall_everywhere: {cases:,} peers in {time.monotonic() - began:.0f} s, all ended, nothing left")
    for name, count in sorted(counts.items()):
        print(f"  {count:>9,}  {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
