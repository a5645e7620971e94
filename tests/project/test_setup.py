"""deploy/setup.sh installs exactly what the locks pin, with any pip and from any state, and reports what it does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S
from tests.project.toy import NO_INDEX, OLDEST_PIP, Toy, run

BASE: Final = getattr(sys, "_base_executable", sys.executable)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A project with `outer`, which needs an extra of `inner`; the index has a newer `inner` than the lock."""
    made = Toy(tmp_path)
    outer = made.release("outer", "1.0", "Requires-Dist: inner[more]>=1")
    inner = made.release("inner", "1.0", "Provides-Extra: more")
    made.release("inner", "2.0", "Provides-Extra: more")
    builder, tester = made.release("builder", "1.0"), made.release("tester", "1.0")
    made.lock("requirements.lock", outer, inner)
    made.lock("requirements-build.lock", builder)
    made.lock("requirements-dev.lock", outer, inner, builder, tester)
    made.lock("tests/project/oldest-pip.lock", made.release("anypip", "1.0"))
    return made


RUN: Final = {"outer": "1.0", "inner": "1.0", "builder": "1.0"}
DEV: Final = {**RUN, "tester": "1.0"}


def with_the_oldest_pip(toy: Toy) -> None:
    if not OLDEST_PIP.is_dir():
        pytest.skip("the oldest pip is not here: `make setup-dev` fetches it")
    toy.environment_with_the_oldest_pip()


def add_what_sends_traces(toy: Toy) -> None:
    """Install it as `make otel` does; its lock, and those of the set-up, change afterwards."""
    lock = "requirements-otel.lock"
    toy.lock(lock, toy.release("opentelemetry_sdk", "1.0"))
    command = (str(toy.venv / "bin/pip"), "install", "--no-deps", "--require-hashes", "-r", lock)
    succeeded(run(*command, cwd=toy.folder, env=toy.environ(**NO_INDEX)))
    toy.lock(lock, toy.release("opentelemetry_sdk", "2.0"))
    toy.lock("requirements-build.lock", toy.release("builder", "1.0"), "# changed\n")


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stderr


def failed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_oldest_pip_looks_past_a_lock_unless_it_is_forbidden(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    command = (str(toy.venv / "bin/pip"), "install", "--require-hashes", "-r", "requirements-dev.lock")
    looked = run(*command, cwd=toy.folder, env=toy.environ(**NO_INDEX))
    assert looked.returncode != 0
    assert "all requirements must have their versions pinned" in looked.stderr


def test_the_oldest_pip_sets_up_what_the_locks_name_in_each_order(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    succeeded(toy.set_up("run"))
    assert toy.installed() == RUN
    assert toy.speaks()
    add_what_sends_traces(toy)
    succeeded(toy.set_up("run"))
    assert toy.installed() == {**RUN, "opentelemetry_sdk": "2.0"}, "what somebody added stays, as its own lock pins it"
    succeeded(toy.set_up("dev"))
    assert toy.installed() == DEV
    assert (toy.venv / "oldest-pip" / "anypip.py").exists()
    for level in ("run", "dev"):
        assert succeeded(toy.set_up(level)) == "", "nothing changed, so there is nothing to do or to say"
    assert toy.installed() == DEV, "what running needs is a part of what is there"


def test_a_changed_lock_is_installed_and_what_it_no_longer_names_is_removed(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    told = succeeded(toy.set_up("dev"))
    assert "what development needs" in told
    assert "fetching 4 packages" in told
    newer = toy.release("outer", "2.0")
    toy.lock("requirements.lock", newer)
    toy.lock("requirements-dev.lock", newer, toy.release("builder", "1.0"))
    told = succeeded(toy.set_up("run"))
    assert "removing what the lock no longer names: inner, tester" in told
    assert toy.installed() == {"outer": "2.0", "builder": "1.0"}
    assert toy.speaks()


def test_a_step_that_says_nothing_is_reported_as_going_on(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    script = toy.folder / "deploy/setup.py"
    script.write_text(script.read_text().replace("EVERY_S: Final = 5.0", "EVERY_S: Final = 0.05"))
    assert "still at work, after 0 s" in succeeded(toy.set_up("run"))


def test_an_interrupted_set_up_begins_from_nothing(toy: Toy) -> None:
    process = subprocess.Popen(
        toy.command("run"), cwd=toy.folder, env=toy.environ(**NO_INDEX), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        assert "Setting up" in process.stderr.readline()
        assert "creating" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGKILL)
    assert "the last set-up was interrupted" in succeeded(toy.set_up("run"))
    assert toy.installed() == RUN
    assert toy.speaks()


def test_an_environment_of_another_folder_or_of_a_lost_python_is_made_again(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    toy.folder = toy.folder.rename(toy.folder.with_name("moved"))
    assert "it was made in another folder" in succeeded(toy.set_up("run"))
    assert toy.speaks()
    assert toy.installed() == RUN
    settings = toy.venv / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace(f"version = {sys.version_info[0]}.", "version = 2."))
    toy.lock("requirements-build.lock", toy.release("another", "1.0"))
    assert "is no longer there" in succeeded(toy.set_up("run"))
    assert "another" in toy.installed()


def test_two_set_ups_at_once_do_one_after_the_other(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    both = [
        subprocess.Popen(
            toy.command(level), cwd=toy.folder, env=toy.environ(**NO_INDEX), stderr=subprocess.PIPE, text=True
        )
        for level in ("run", "dev")
    ]
    told = [process.communicate(timeout=PATIENCE_S)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert toy.installed() == DEV
    assert toy.speaks()


def test_without_a_network_what_is_there_stays_as_it_is(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    succeeded(toy.set_up("run"))
    toy.lock("requirements.lock", toy.release("outer", "1.0"), toy.release("unheard", "1.0"))
    (toy.index / "unheard-1.0-py3-none-any.whl").unlink()
    told = failed(toy.set_up("run", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1"))
    assert "the package index cannot be reached" in told.splitlines()[-1]
    assert toy.installed() == RUN
    assert toy.speaks()
    assert not (toy.venv / ".unfinished").exists()


def test_a_lock_that_lacks_something_is_reported(toy: Toy) -> None:
    with_the_oldest_pip(toy)
    toy.lock("requirements.lock", toy.release("outer", "1.0", "Requires-Dist: inner[more]>=1"))
    told = failed(toy.set_up("run"))
    assert "pip check failed" in told.splitlines()[-1]
    assert "inner" in told


def test_a_folder_that_is_no_environment_is_left_alone(toy: Toy) -> None:
    toy.venv.mkdir()
    (toy.venv / "mine").write_text("precious")
    assert "is no virtual environment and not empty" in failed(toy.set_up("run"))
    assert (toy.venv / "mine").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_named(toy: Toy) -> None:
    assert "must be writable" in failed(toy.set_up("run", venv="/dev/null/.venv"))


def interpreter(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_named_interpreter_that_is_missing_broken_or_too_old_is_named(toy: Toy, tmp_path: Path) -> None:
    told = failed(toy.set_up("run", PYTHON="python3.99"))
    assert "PYTHON=python3.99: no such interpreter" in told
    assert "not found" not in told, "the shell's own complaint"
    broken = interpreter(tmp_path, "broken", "echo it hurts >&2; exit 3")
    assert f"PYTHON={broken} does not run as a Python interpreter: it hurts" in failed(toy.set_up("run", PYTHON=broken))
    old = interpreter(tmp_path, "old", 'case "$2" in *exit*) exit 1;; *) echo 3.9.2;; esac')
    told = failed(toy.set_up("run", PYTHON=old))
    assert f"needs Python 3.11 or newer, and PYTHON={old} is 3.9.2" in told


def test_a_missing_or_old_python3_is_named_and_a_newer_one_beside_it_is_taken(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    assert "There is no python3 here" in failed(toy.set_up("run", PATH=str(path)))
    interpreter(path, "python3", 'case "$2" in *exit*) exit 1;; *) echo 3.9.2;; esac')
    assert "python3 here is 3.9.2" in failed(toy.set_up("run", PATH=str(path)))
    interpreter(path, "python3.11", f'exec "{BASE}" "$@"')
    assert "Set-up cannot go on" in failed(toy.set_up("run", venv="/dev/null/.venv", PATH=str(path)))
