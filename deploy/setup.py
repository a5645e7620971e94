"""Makes a virtual environment what the locks say: `setup.py LEVEL VENV`, called by deploy/setup.sh; LEVEL: run or dev.

Standard library only. Nothing is done when nothing changed. A lock is the complete list: pip installs it without
looking for dependencies, because pip below 23.3 looks past a lock for what an extra names (pip#9644, #12345).
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

BASE: Final[str] = getattr(sys, "_base_executable", sys.executable)
"""The interpreter itself, also where this runs in the environment that is to be made again."""
LEVELS: Final = ("run", "dev")
"""What is installed, each with all of the one before."""
LOCKS: Final = {"run": ("requirements.lock", "requirements-build.lock"), "dev": ("requirements-dev.lock",)}
OPTIONAL: Final = {"opentelemetry-sdk": "requirements-otel.lock"}
"""By a package that somebody has added (make otel): the lock of what came with it, which set-up keeps, as pinned."""
RUN_MB: Final = 350
"""The disk space that running takes, and DEV_MB developing, bytecode included (`du -sm .venv`, November 2026)."""
DEV_MB: Final = 1200
OLDEST_PIP: Final = "tests/project/oldest-pip.lock"
"""The oldest pip that set-up is tested with; kept beside the environment's own, for a test that has no network."""
HASHED: Final = ("install", "--no-deps", "--require-hashes", "--progress-bar", "off")
"""How pip installs a lock."""
OURS: Final = {"pip", "setuptools", "wheel", "klinenode"}
"""What is in the environment without being in a lock."""

PIP_SETTINGS: Final = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
"""Some people's pip installs to their home by default, which it refuses inside an environment."""

PROGRESS_EVERY_S: Final = 5.0
SAID: Final = threading.Event()
"""Set by each line; heartbeat() clears it."""
APT_LOCK_S_MAX: Final = 120
"""A new machine's automatic updates hold apt's lock for a while."""
LINES_SHOWN_MAX: Final = 30
"""Of what a failed command said."""
NO_CONNECTION: Final = re.compile(
    "NewConnectionError|NameResolutionError|Failed to establish|name resolution|ConnectTimeout|unreachable|ProxyError"
)
HANDLED: Final = ("Collecting ", "Processing ", "Requirement already satisfied", "Ignoring ")
"""How a line of pip begins for each package of a lock."""


def main(asked: str, venv: Path) -> None:
    """Set up, unless the environment is already what `asked` needs."""
    if is_current(asked, venv):
        return
    with exclusive(venv) as lock:
        if not is_current(asked, venv):
            begun = time.monotonic()
            set_up = SetUp(venv, lock)
            with heartbeat(set_up):
                set_up.carry_out(asked)
            say(f"{venv.name} is ready after {time.monotonic() - begun:.0f} s.")


class SetUp:
    """One set-up of one environment, begun while `lock` is held."""

    def __init__(self, venv: Path, lock: int) -> None:
        self.venv = venv
        self.python = venv / "bin" / "python"
        self.unfinished = venv / ".unfinished"
        self.progress = "still at work"
        """What heartbeat() says next."""
        self._lock = lock

    def carry_out(self, asked: str) -> None:
        """Bring the environment to the higher of `asked` and the level it has."""
        fault = self.fault()
        level = asked if fault else max(asked, self.level(), key=LEVELS.index)
        added = [] if fault or level == "dev" else [OPTIONAL[name] for name in OPTIONAL.keys() & self.installed()]
        pins = pinned(*LOCKS[level], *added)
        say(f"Setting up {self.venv.name} with {'what running' if level == 'run' else 'what development'} needs ...")
        self.venv.mkdir(exist_ok=True)
        if fault and any(self.venv.iterdir()):
            if not (self.venv / "pyvenv.cfg").exists() and not self.unfinished.exists():
                fail(
                    f"{self.venv} is no virtual environment and not empty. Move it away or name another: make VENV=..."
                )
            say(f"  {self.venv.name} is made from nothing: {fault}")
        if fault and (importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None):
            install_venv_module()
        self.unfinished.touch()
        (self.venv / ".stamp").unlink(missing_ok=True)
        if fault:
            self.create()
        self.install(level, len(pins))
        for lock in added:
            self.pip(*HASHED, "--requirement", lock)
        if gone := sorted(set(self.installed()) - pins - OURS):
            say(f"  removing what the lock no longer names: {', '.join(gone)}")
            self.pip("uninstall", "--yes", *gone)
        self.pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
        self.pip("check")
        self.unfinished.unlink()
        write_stamp(level, self.venv)

    def fault(self) -> str:
        """Why the environment cannot be used as it is; empty when it can."""
        if self.unfinished.exists():
            return "the last set-up was interrupted"
        if not self.python.exists():
            return "it has no interpreter"
        try:
            made_with = version_of(self.venv)
            pip_begins = (self.venv / "bin" / "pip").read_text()[:1000]
        except (OSError, UnicodeDecodeError):
            return "it is damaged"
        asked = ".".join(map(str, sys.version_info[:2]))
        script = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
        runs = subprocess.run([self.python, "-I", "-c", script], capture_output=True, text=True, check=False)
        if runs.returncode or runs.stdout.strip() != made_with:
            return f"its Python {made_with} is no longer there"
        if os.environ.get("PYTHON") and asked != made_with:
            return f"it has Python {made_with}, and {os.environ['PYTHON']} is {asked}"
        if not re.search(rf"[!\"' ]{re.escape(str(self.python))}", pip_begins):
            return "it was made in another folder"
        return ""

    def level(self) -> str:
        """What the environment holds by its stamp, or by its packages when an older set-up made it."""
        level = read_stamp(self.venv).get("level")
        if level in LEVELS:
            return str(level)
        return "dev" if "pytest" in self.installed() else "run"

    def create(self) -> None:
        """Make the environment anew; nothing of an old one stays but the mark of an unfinished set-up."""
        for child in self.venv.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child != self.unfinished:
                child.unlink()
        say(f"  creating it with Python {sys.version.split()[0]} ({BASE})")
        self.run(f"{BASE} could not create {self.venv}", BASE, "-I", "-m", "venv", str(self.venv))

    def install(self, level: str, packages: int) -> None:
        """Install the locks of `level`; the mark of an unfinished set-up goes when a failure changed nothing."""
        say(f"  fetching {packages} packages")
        before = self.listing()
        locks = [word for lock in LOCKS[level] for word in ("--requirement", lock)]
        try:
            self.pip(*HASHED, *locks, packages=packages)
            if level == "dev":
                self.pip(*HASHED, "--target", str(self.venv / "oldest-pip"), "--upgrade", "--requirement", OLDEST_PIP)
        except SystemExit:
            if self.listing() == before:
                self.unfinished.unlink()
            raise

    def listing(self) -> list[tuple[str, int]]:
        """What pip would change: the entries of the folders it installs to, with their times."""
        folders = [self.venv / "bin", *self.venv.glob("lib/python*/site-packages")]
        return sorted((str(entry), entry.lstat().st_mtime_ns) for folder in folders for entry in folder.iterdir())

    def installed(self) -> set[str]:
        """The normalized names of the distributions in the environment."""
        script = "from importlib.metadata import distributions as d; print(*(x.metadata['Name'] for x in d()))"
        names = subprocess.run([self.python, "-I", "-c", script], capture_output=True, text=True, check=True).stdout
        return {normalized(name) for name in names.split()}

    def pip(self, *words: str, packages: int = 0) -> None:
        """Run the environment's pip; its words are shown when it fails."""
        what = " ".join(word for word in words[:1])
        self.run(f"pip {what} failed", str(self.python), "-I", "-m", "pip", "--no-input", *words, packages=packages)

    def run(self, failure: str, *command: str, packages: int = 0) -> None:
        """Run `command` to its end; with `packages`, count in `progress` how many of them pip has handled."""
        said: deque[str] = deque(maxlen=LINES_SHOWN_MAX)
        handled = 0
        environment = {**os.environ, **PIP_SETTINGS}
        # the lock goes with the child: should this process be killed, nobody else begins before the child has ended
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", env=environment, pass_fds=(self._lock,),
        ) as child:  # fmt: skip
            assert child.stdout is not None
            for line in child.stdout:
                said.append(line.rstrip())
                handled += line.startswith(HANDLED)
                if packages and line.startswith("Installing collected"):
                    say("  installing them")
                    packages = 0
                self.progress = f"{min(handled, packages)} of {packages}" if packages else "still at work"
        if child.returncode:
            fail("\n".join([*said, explained(failure, "\n".join(said))]))


def explained(failure: str, said: str) -> str:
    """The sentence that follows the words of a command that failed."""
    if NO_CONNECTION.search(said):
        needs = (
            "Set-up needs it, or a mirror of it (PIP_INDEX_URL), when a lock is new. Call make again when it can be."
        )
        return f"{failure}: the package index cannot be reached. {needs}"
    if "No space left" in said:
        return f"{failure}: the disk is full. Running takes about {RUN_MB} MB, developing {DEV_MB} MB."
    return f"{failure}; what it said is above."


def install_venv_module() -> None:
    """Install the part of the standard library that Debian and Ubuntu keep in a package of its own."""
    package = "python{}.{}-venv".format(*sys.version_info)
    apt = shutil.which("apt-get")
    if apt is None or not BASE.startswith("/usr/bin/"):
        fail(f"{BASE} has no venv and ensurepip modules. Name a complete interpreter: make PYTHON=...")
    if os.geteuid() != 0:
        fail(f"This python3 has no venv module. Install it and call make again: sudo apt-get install {package}")
    say(f"  installing {package}, which this system keeps apart from python3")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        waiting = f"DPkg::Lock::Timeout={APT_LOCK_S_MAX}"
        done = subprocess.run(
            [apt, "-o", waiting, *words],
            env=quiet,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines()[-LINES_SHOWN_MAX:]
            fail("\n".join([*said, f"apt-get could not install {package}; what it said is above."]))
    importlib.invalidate_caches()


@contextmanager
def exclusive(venv: Path) -> Iterator[int]:
    """Let one set-up at a time work on the environment, whichever make began it."""
    descriptor = os.open(venv.with_name(venv.name + ".flock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another set-up of {venv.name} is at work; waiting for its end ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_current(asked: str, venv: Path) -> bool:
    """Whether the environment was made for `asked`, or for more, from what lies here now."""
    stamp = read_stamp(venv)
    level = stamp.get("level")
    if level not in LEVELS or LEVELS.index(level) < LEVELS.index(asked):
        return False
    if os.environ.get("PYTHON") and version_of(venv) != ".".join(map(str, sys.version_info[:2])):
        return False
    return bool(stamp["digest"] == digest(level, venv))


def read_stamp(venv: Path) -> dict[str, Any]:
    """What the last finished set-up wrote; empty when there was none."""
    try:
        stamp = json.loads((venv / ".stamp").read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and "digest" in stamp else {}


def write_stamp(level: str, venv: Path) -> None:
    """Say what the environment is made of."""
    new = venv / ".stamp.new"
    new.write_text(json.dumps({"level": level, "digest": digest(level, venv)}))
    new.replace(venv / ".stamp")


def digest(level: str, venv: Path) -> str:
    """Of all that decides what the environment holds, its place and its interpreter included."""
    project = tomllib.loads(Path("pyproject.toml").read_text())
    build = [project.get("project"), project.get("build-system"), project.get("tool", {}).get("hatch")]
    parts = [str(venv), os.path.realpath(venv / "bin" / "python"), json.dumps(build, sort_keys=True)]
    parts += [Path(name).read_text() for name in (*LOCKS[level], "deploy/setup.py")]
    parts += [Path(OLDEST_PIP).read_text()] if level == "dev" else []
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def version_of(venv: Path) -> str:
    """The Python version, as 3.12, that the environment was made with."""
    settings = venv / "pyvenv.cfg"
    text = settings.read_text() if settings.exists() else ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", text, re.MULTILINE)
    return found[1] if found else ""


def pinned(*locks: str) -> set[str]:
    """The normalized names that `locks` pin, for whatever Python and machine."""
    text = "\n".join(Path(lock).read_text() for lock in locks)
    return {normalized(name) for name in re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[\w,.-]+\])?==", text, re.MULTILINE)}


def normalized(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def heartbeat(set_up: SetUp) -> Iterator[None]:
    """Say the set-up's progress after each PROGRESS_EVERY_S without a line: pip says nothing while it unpacks."""
    begun, ended = time.monotonic(), threading.Event()

    def beat() -> None:
        while True:
            something_was_said = SAID.wait(PROGRESS_EVERY_S)
            if ended.is_set():
                return
            if not something_was_said:
                say(f"  {set_up.progress}, after {time.monotonic() - begun:.0f} s")
            SAID.clear()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        SAID.set()
        thread.join()


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    SAID.set()


def fail(text: str) -> NoReturn:
    """End with a sentence."""
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]).absolute())
    except KeyboardInterrupt:
        say("Set-up was interrupted. Call make again: it begins from nothing.")
        sys.exit(130)
    except OSError as error:
        fail(
            f"Set-up cannot go on in {Path.cwd()}: {error}. "
            f"This folder must be writable and have about {RUN_MB} MB of room."
        )
