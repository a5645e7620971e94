"""A bare Debian below a folder: made, configured to reach what this machine reaches, entered, removed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

STEP_S_MAX: Final = 1200
"""For one command in the system, fetching included."""
LINES_SHOWN_MAX: Final = 25
CONTENTS: Final = "git,make,python3,ca-certificates"
"""What the README asks for; certificates because git brings them on any system that can clone."""
CARRIED_FILES: Final = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d",
    "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates",
)  # fmt: skip
"""How this machine reaches its registries; and those of root's home go to the user's."""
CARRIED_HOME: Final = (".config/pip", ".pip")
CARRIED_VARIABLES: Final = re.compile(
    r"PIP_\w+|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE", re.IGNORECASE
)
CARRIED_APT: Final = re.compile(r"Acquire::(https?::|Check-|Retries|Proxy)")


class Failed(Exception):
    """A command in the system did not do what it should; the text says which, and ends with what it said."""


def bootstrap(release: str, bases: Path) -> Path:
    """A bare system of this release, made once below `bases`."""
    base = bases / release
    if base.is_dir():
        return base
    bases.mkdir(parents=True, exist_ok=True)
    partial = bases / f"{release}.partial"
    removed(partial)
    print(f"{release}: fetching a bare system", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={CONTENTS}", release, str(partial), *mirror()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S_MAX, check=False)
    if done.returncode:
        raise SystemExit(f"debootstrap failed:\n{ended(done.stdout + done.stderr)}")
    partial.rename(base)
    return base


def mirror() -> list[str]:
    """The Debian mirror that this machine's apt uses; none known: debootstrap's own."""
    apt = shutil.which("apt-get")
    if apt is None:
        return []
    command = [apt, "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line.split()[-1] for line in lines if line.startswith("Debian ")][:1]


def removed(root: Path) -> None:
    """Remove a system and what this program mounted in it; never through a mount."""
    for point in reversed(mounted(root)):
        subprocess.run(["umount", point], check=True)
    assert not mounted(root), f"{root} still has mounts in it: {mounted(root)}"
    if root.exists():
        shutil.rmtree(root)


def mounted(root: Path) -> list[str]:
    """Where something is mounted in `root`, as this process sees it."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(root)]


class Bare:
    """One copy of a bare system, used by one user."""

    def __init__(self, base: Path, root: Path, user: str) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True, timeout=STEP_S_MAX)
        self.root = root
        self.user = user
        self.home = "/root" if user == "root" else f"/home/{user}"
        self.clone_folder = f"{self.home}/klinenode"
        subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
        (root / "dev/shm").mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "dev/shm"], check=True)
        if user != "root":
            self.as_root("useradd", "--create-home", user)
        self._carry_over()

    def clone(self, repository: Path) -> None:
        """A clean clone of the newest commit."""
        target = f"{self.root}{self.clone_folder}"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-hardlinks", repository, target], check=True, timeout=STEP_S_MAX
        )
        self.as_root("chown", "-R", f"{self.user}:", self.clone_folder)

    def does(self, *command: str, network: bool = True) -> str:
        """What the user's command in the clone said; it must succeed."""
        done = self._run(self._entered(command, network))
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{ended(done.stdout)}")
        return done.stdout

    def fails(self, *command: str, told: str) -> None:
        """The user's command must fail with a sentence."""
        done = self._run(self._entered(command, network=True))
        if done.returncode == 0 or told not in done.stdout:
            raise Failed(f"{' '.join(command)} was to fail with {told!r}, and said:\n{ended(done.stdout)}")

    def as_root(self, *command: str) -> None:
        """A step of the system's administrator."""
        done = self._run(["chroot", str(self.root), *command])
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{ended(done.stdout)}")

    def megabytes(self, name: str) -> int:
        """Disk that a folder of the clone takes."""
        size = subprocess.run(
            ["du", "-sm", f"{self.root}{self.clone_folder}/{name}"], capture_output=True, text=True, check=True
        )
        return int(size.stdout.split()[0])

    def _entered(self, command: tuple[str, ...], network: bool) -> list[str]:
        # without a network there is loopback only, of its own: no port is taken, and nothing outside can be asked
        alone = [] if network else ["unshare", "--net", sys.executable, "-m", "tests.programs.fresh.loopback"]
        as_user = (
            [] if self.user == "root" else ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        )
        words = ["sh", "-c", 'cd "$0" && exec "$@"', self.clone_folder, *command]
        return [*alone, "chroot", str(self.root), *as_user, *words]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        machine = dict(os.environ)  # noqa: TID251  the part that says how registries are reached is handed on
        carried = {name: value for name, value in machine.items() if CARRIED_VARIABLES.fullmatch(name)}
        environ = {**carried, "HOME": self.home, "LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        try:
            return subprocess.run(
                command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                text=True, timeout=STEP_S_MAX, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{command} was not done after {STEP_S_MAX} s") from late

    def _carry_over(self) -> None:
        """Let the system reach the registries that this machine reaches, the way it does."""
        pairs = [(Path(name), name) for name in CARRIED_FILES]
        pairs += [(Path.home() / name, f"{self.home}/{name}") for name in CARRIED_HOME]
        for source, name in pairs:
            target = Path(f"{self.root}{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy(source, target)
        apt = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
        kept = [line for line in apt.splitlines() if CARRIED_APT.match(line)]
        (self.root / "etc/apt/apt.conf.d/99carried").write_text("\n".join([*kept, ""]))
        self.as_root("chown", "-R", f"{self.user}:", self.home)


def ended(text: str) -> str:
    """The last lines of what a command said."""
    return "\n".join(text.splitlines()[-LINES_SHOWN_MAX:])
