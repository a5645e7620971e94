"""`make fresh`: the README's commands in bare Debian systems, as root and as a user, with times and sizes.

Needs root, debootstrap and a Debian mirror. All that is mounted or started lives in namespaces of its own, which end
with the program; the folder is removed only afterwards, when nothing can be mounted in it. Standard library only.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.programs.fresh.bare import Bare, Failed, bootstrap, removed

ROOT: Final = Path(__file__).parents[3]
RELEASES: Final = "bookworm,trixie"
WHOLE_S_MAX: Final = 5400
"""Two systems are fetched and set up twice each, with a package index on a slow line."""
ONE_TEST: Final = "tests/domain/test_span.py"
COLUMNS: Final = ("set-up s", "MB", "demo s", "set-up-dev s", "MB dev", "one test s")


@dataclass
class Run:
    """The measurements of one system and one user."""

    name: str
    figures: list[str] = field(default_factory=list)

    def row(self) -> str:
        return f"{self.name:<16}" + "".join(
            f"{figure:>14}" for figure in [*self.figures, *["–"] * (len(COLUMNS) - len(self.figures))]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", default=RELEASES, help="of Debian, as CSV")
    parser.add_argument("--bases", help="a folder that keeps the bare systems for the next call")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        sys.exit(inside(Path(asked.inside), Path(asked.bases or asked.inside), asked.releases.split(",")))
    for tool in ("debootstrap", "unshare", "chroot", "git"):
        if shutil.which(tool) is None:
            sys.exit(f"make fresh needs {tool}. Install it: sudo apt-get install debootstrap util-linux git")
    if os.geteuid() != 0:
        sys.exit("make fresh makes whole systems below a folder, which only root may: call it as root")
    with folder() as here:
        bases = ["--bases", str(Path(asked.bases).absolute())] if asked.bases else []
        namespaces = (
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        )
        again = (
            sys.executable,
            "-m",
            "tests.programs.fresh.fresh",
            "--inside",
            str(here),
            "--releases",
            asked.releases,
        )
        with subprocess.Popen([*namespaces, *again, *bases], cwd=ROOT) as process:
            try:
                status = process.wait(WHOLE_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()  # --kill-child kills everything that was started inside
                status = 1
                print(f"not done after {WHOLE_S_MAX} s", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that is removed with all its systems, unless something in it is still mounted."""
    here = Path(tempfile.mkdtemp(prefix="klinenode-fresh-"))
    try:
        yield here
    finally:
        removed(here)


def inside(here: Path, bases: Path, releases: list[str]) -> int:
    """Try each release as each user, in the namespaces; return 0 if everything succeeded."""
    runs, faults = [], 0
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    print(f"commit {commit.stdout.strip()}; logs in {here} while it runs", flush=True)
    for release in releases:
        base = bootstrap(release, bases)
        for user in ("root", "klines"):
            run = Run(f"{release} {user}")
            runs.append(run)
            try:
                tried(run, base, here / f"{release}-{user}", user)
            except Failed as failed:
                faults += 1
                print(f"{run.name}: {failed}", flush=True)
            removed(here / f"{release}-{user}")
    print(f"\n{'':<16}" + "".join(f"{column:>14}" for column in COLUMNS))
    print("\n".join(run.row() for run in runs), flush=True)
    return 1 if faults else 0


def tried(run: Run, base: Path, root: Path, user: str) -> None:
    """Try everything that the README promises, in one clone."""
    bare = Bare(base, root, user)
    bare.clone(ROOT)
    if user != "root":
        bare.fails("make", "setup", told="sudo apt-get install python3")
        bare.as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update", "-qq")
        bare.as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "python3-venv")

    def step(*command: str, network: bool = True) -> None:
        begun = time.monotonic()
        bare.does(*command, network=network)
        run.figures.append(f"{time.monotonic() - begun:.0f}")
        print(f"{run.name}: {' '.join(command)}: {run.figures[-1]} s", flush=True)

    step("make", "setup")
    run.figures.append(str(bare.megabytes(".venv")))
    step("python3", "-m", "tests.programs.fresh.demo", network=False)
    step("make", "setup-dev")
    run.figures.append(str(bare.megabytes(".venv")))
    step("make", "test", f"PYTEST_ARGS=-n0 {ONE_TEST}", network=False)


if __name__ == "__main__":
    main()
