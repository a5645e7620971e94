"""The repository itself: locks, make targets and deployment files are correct, and the bans are in force."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from app.server import BEAT_LATE_S, WORKER_S_MAX
from app.settings import Settings

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
COMMAND_S_MAX: Final = 60.0
MACHINES: Final = re.compile(r"(?<![\w.])/(work|root|farm|home/\w+)/")  # paths that exist on one machine only


def run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=False
    )


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return [ROOT / name for name in run("git", "ls-files", "-z").stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("folder", ["tests/programs/clients", "app/web"])
def test_a_lock_of_npm_carries_no_address_and_hashes_everything(folder: str) -> None:
    text = (ROOT / folder / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert [name for name, each in packages.items() if name and not each.get("integrity")] == []


def test_the_dashboard_is_built_once_and_its_absence_fails_no_set_up(tmp_path: Path) -> None:
    for name in ("cat", "cksum", "find", "sort"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/web.sh", tmp_path / "deploy")
    shutil.copytree(ROOT / "app/web", tmp_path / "app/web", ignore=shutil.ignore_patterns("node_modules", "dist"))
    command = ["/bin/sh", str(tmp_path / "deploy/web.sh")]

    def call(mode: str) -> tuple[int, int]:
        done = subprocess.run(
            [*command, mode], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        return done.returncode, len(done.stderr.splitlines())

    assert (call("try"), call("build"), call("check")) == ((0, 1), (1, 1), (0, 1)), "one line says what is missing"


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9][\w.-]*(?:\[[\w,-]+\])?==\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def locks() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.lock"), *ROOT.glob("tests/*/*.lock")]]


@pytest.mark.parametrize("lock", locks())
def test_a_lock_file_pins_and_hashes_and_carries_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert text.count("--hash=sha256:") >= len(pins(lock)) > 0


def test_what_runs_and_what_builds_is_pinned_as_what_is_tested() -> None:
    parts = ("requirements.lock", "requirements-build.lock", "requirements-otel.lock")
    assert set().union(*map(pins, parts)) <= pins("requirements-dev.lock")
    assert len(pins("requirements.lock")) > 20


def test_the_build_lock_holds_what_the_build_requires() -> None:
    required = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert required | {"editables"} <= {pin.split("==")[0] for pin in pins("requirements-build.lock")}


def test_whatever_installs_a_lock_takes_it_as_the_complete_list() -> None:
    scripts = [ROOT / "Dockerfile", ROOT / "Makefile", ROOT / ".ci/run", *(ROOT / "deploy").glob("*.sh")]
    installs = [line for path in scripts for line in re.findall(r"pip install [^&\n]*", path.read_text())]
    assert len(installs) >= 4
    assert [line for line in installs if "--no-deps" not in line] == []
    assert [line for line in installs if "lock" in line and "--require-hashes" not in line] == []


def test_the_image_stands_on_one_digest_and_owns_its_volume() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", docker, re.MULTILINE) == ["${BASE}", "${BASE}", "${BASE}"]
    assert re.search(r"^ARG BASE=python:3[.\w-]+@sha256:[0-9a-f]{64}$", docker, re.MULTILINE)
    user, made, volume = (docker.index(f"\n{line}") for line in ("USER ", "RUN mkdir ", "VOLUME "))
    assert user < made < volume, "what is made before VOLUME, by the user that runs, is what a fresh volume takes over"
    assert docker[made:].split()[2] == docker[volume:].split()[1]


def test_the_makefile_has_the_promised_targets_and_no_stubs() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {"run", "demo", "test", "sim", "bench", "setup", "setup-dev", "lint", "docs"} <= targets
    for name in ("sim", "bench"):
        recipe = text.split(f"\n{name}:", 1)[1].split("\n\n", 1)[0]
        assert "$(BIN)/" in recipe, f"make {name} is a stub"
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    assert {"run", "demo", "test", "sim", "bench", "setup", "lint", "docs"} <= phony


def test_what_a_user_calls_installs_only_what_running_needs() -> None:
    needs = dict(re.findall(r"^([a-z-]+): (setup\S*)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for name, level in needs.items() if level == "setup"} == {"run", "demo", "env-sample", "otel"}


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    mine = Path(__file__)
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path != mine and (hit := MACHINES.search(text)):
            found.append(f"{path.relative_to(ROOT)}: {hit[0]}")
    assert found == []


def test_no_tracked_file_is_large_or_a_leftover() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    assert [name for name in names if (ROOT / name).stat().st_size > 1_000_000] == []
    assert [name for name in names if name.endswith((".pyc", ".db", ".log", ".orig", ".rej")) or name == ".env"] == []


def test_the_image_copies_only_what_exists_and_is_let_in() -> None:
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [name for line in copies for name in line.split()]
    assert len(sources) >= 5
    assert [name for name in sources if not (ROOT / name).exists()] == []
    ignore = (ROOT / ".dockerignore").read_text().split()
    assert ignore[0] == "*", "everything stays outside unless it is named"
    let_in = {name.removeprefix("!") for name in ignore[1:] if name.startswith("!")}
    assert let_in == {name for name in sources if not name.startswith("app/")}
    assert {"app/web/node_modules", "app/web/dist"} <= set(ignore), "the image builds its own"


def test_the_image_has_what_the_build_takes() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wheel = re.search(r"^packages = \[(.*)\]$", project, re.MULTILINE)
    assert wheel is not None
    needed = [*re.findall(r'"([^"]+)"', wheel[1]), "README.md", "LICENSE", "pyproject.toml"]
    docker = (ROOT / "Dockerfile").read_text()
    assert [name for name in needed if not re.search(rf"^COPY .*\b{re.escape(name)}\b", docker, re.MULTILINE)] == []


UNITS: Final = ("klinenode", "klinenode-collect")


def unit_text(name: str) -> str:
    return (ROOT / f"deploy/systemd/{name}.service").read_text()


def test_the_systemd_unit_has_room_for_as_many_workers_as_there_are() -> None:
    text = (ROOT / "deploy/systemd/klinenode.service").read_text()
    found = re.search(r"^MemoryMax=(\d+)G$", text, re.MULTILINE)
    assert found is not None
    workers: int = Settings.model_fields["workers"].default
    budgets = Settings.model_fields["tail_bytes_max"].default + Settings.model_fields["cache_bytes_max"].default
    assert int(found[1]) << 30 == (workers + 1) * (512 << 20)
    assert budgets <= 256 << 20, "the rest of a worker takes up to half of its 512 MB"


EXPOSURE_MAX: Final = 2.0  # of 10; remaining: the network, reading the system's files, and thread priorities


@pytest.mark.parametrize("name", UNITS)
def test_a_systemd_unit_exposes_little(tmp_path: Path, name: str) -> None:
    analyzer = shutil.which("systemd-analyze")
    if analyzer is None or " --offline" not in run(analyzer, "--help").stdout:
        pytest.skip("no systemd-analyze that reads a unit from its file")
    here = tmp_path / f"{name}.service"
    here.write_text(unit_text(name))
    verdict = run(analyzer, "security", "--offline=true", "--no-pager", str(here))
    found = re.search(rf"Overall exposure level for {name}.service: ([\d.]+)", verdict.stdout)
    assert found is not None, verdict.stderr
    assert float(found[1]) <= EXPOSURE_MAX, verdict.stdout


def test_the_documented_steps_make_what_the_systemd_unit_names() -> None:
    text = (ROOT / "deploy/systemd/klinenode.service").read_text()
    unit = dict(re.findall(r"^(\w+)=(\S+)", text, re.MULTILINE))
    [steps] = re.findall(r"```sh\n(sudo useradd.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    user = re.search(r"useradd --system --user-group --home-dir (\S+) .* (\S+)\n", steps)
    assert user is not None
    assert user.groups() == (unit["WorkingDirectory"], unit["User"])
    assert unit["User"] == unit["Group"] == unit["StateDirectory"] == "klinenode"
    clone = unit["ExecStart"].removesuffix("/.venv/bin/klinenode")
    assert f" {clone}\n" in steps or f" {clone} " in steps
    assert f"make -C {clone} setup" in steps
    assert f" {unit['EnvironmentFile'].removeprefix('-')} " in steps
    assert f"cp {clone}/deploy/systemd/klinenode.service /etc/systemd/system/" in steps
    assert "systemctl enable --now klinenode" in steps
    assert not clone.startswith(("/home", "/root")), "klinenode may not be allowed to enter it"
    assert unit["ProtectHome"] == "read-only", "the interpreter of a .venv may lie under a home"


def test_the_documented_steps_make_what_the_unit_of_the_collector_names() -> None:
    node, unit = (dict(re.findall(r"^(\w+)=(\S+)", unit_text(name), re.MULTILINE)) for name in UNITS)
    for shared in ("User", "Group", "StateDirectory", "WorkingDirectory", "ProtectHome"):
        assert unit[shared] == node[shared], "both count one weight at the exchange, in one folder"
    assert unit["Environment"] != f"PORT={Settings.model_fields['port'].default}", "the node listens there"
    text = (ROOT / "docs/operations.md").read_text()
    [steps] = re.findall(r"```sh\n(sudo install [^\n]*collect.*?)```", text, re.DOTALL)
    assert f" {unit['EnvironmentFile'].removeprefix('-')}\n" in steps
    clone = unit["ExecStart"].removesuffix("/.venv/bin/klinenode")
    assert f"cp {clone}/deploy/systemd/klinenode-collect.service /etc/systemd/system/" in steps
    assert "systemctl enable --now klinenode-collect" in steps


@pytest.mark.parametrize(("name", "command"), [(UNITS[0], "serve"), (UNITS[1], "collect")])
def test_a_systemd_unit_is_understood(tmp_path: Path, name: str, command: str) -> None:
    text = unit_text(name)
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].endswith(f"klinenode {command}")
    assert unit["Service"]["Restart"] == "always"
    assert int(unit["Service"]["TimeoutStopSec"].rstrip("s")) > 10, "the node may take ten seconds to stop"
    assert (unit["Service"]["Type"], unit["Service"]["NotifyAccess"]) == ("notify", "main")
    assert int(unit["Service"]["WatchdogSec"].rstrip("s")) > WORKER_S_MAX + BEAT_LATE_S, "a worker may be replaced"
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        return
    here = tmp_path / f"{name}.service"
    started = unit["Service"]["ExecStart"].split()[0]
    here.write_text(text.replace(started, "/bin/true").replace("User=klinenode", "User=root"))
    verdict = run(verifier, "verify", "--man=no", str(here))
    complaints = [line for line in verdict.stderr.splitlines() if here.name in line]
    assert complaints == []


def test_the_import_contracts_hold_and_cover_every_module() -> None:
    verdict = run(str(BIN / "lint-imports"))
    assert verdict.returncode == 0, verdict.stdout
    assert " 0 broken" in verdict.stdout
    assert (ROOT / "pyproject.toml").read_text().count("exhaustive = true") >= 2


@pytest.mark.parametrize(
    "banned",
    [
        "import asyncio\n\n\nasync def f() -> None:\n    await asyncio.sleep(1)\n",
        "import asyncio\n\n\nasync def f() -> None:\n    await asyncio.gather()\n",
        "import time\n\nx = time.time()\n",
        "from datetime import UTC, datetime\n\nx = datetime.now(UTC)\n",
        "import os\n\nx = os.environ\n",
        "from starlette.middleware.base import BaseHTTPMiddleware\n\nx = BaseHTTPMiddleware\n",
    ],
    ids=["sleep", "gather", "time", "now", "environ", "middleware"],
)
def test_a_ban_is_in_force(banned: str) -> None:
    verdict = run(str(BIN / "ruff"), "check", "--stdin-filename", "app/querying/example.py", "-", text=banned)
    assert verdict.returncode == 1
    assert "TID251" in verdict.stdout


def test_ci_runs_what_a_person_runs() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    called = re.findall(r"^make (\w+)(?: SEEDS=\d+)?$", script, re.MULTILINE)
    assert called == ["lint", "site", "clients", "test", "sim"]
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"^make (test|lint)\b", readme, re.MULTILINE) == ["test", "lint"], (
        "a person reads of other commands"
    )
