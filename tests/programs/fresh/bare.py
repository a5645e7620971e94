"""A bare Debian system in a folder: made, given this machine's configuration for registries, entered and removed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

STEP_S_MAX: Final = 1200
"""For one command in the system, including downloads."""
LINES_SHOWN_MAX: Final = 25
CONTENTS: Final = "git,make,python3,ca-certificates"
"""What the README asks for, and certificates, which every system has whose git can clone."""
CARRIED_FILES: Final = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/etc/apt/auth.conf", "/etc/apt/auth.conf.d",
    "/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates",
)  # fmt: skip
"""Files that say how this machine reaches its registries; CARRIED_HOME: those in root's home, for the user's."""
CARRIED_HOME: Final = (".config/pip", ".pip")
CARRIED_VARIABLES: Final = re.compile(
    r"PIP_\w+|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE", re.IGNORECASE
)
CARRIED_APT: Final = re.compile(r"Acquire::(https?::|Check-|Retries|Proxy)")


class Failed(Exception):
    """A command in the system failed; the text names the command and ends with its output."""


def bootstrap(release: str, bases: Path) -> Path:
    """A bare system of this release, made in `bases` if it is not there yet."""
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
    """The Debian mirror that this machine's apt uses, as arguments; empty for debootstrap's default."""
    apt = shutil.which("apt-get")
    if apt is None:
        return []
    command = [apt, "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line.split()[-1] for line in lines if line.startswith("Debian ")][:1]


def removed(root: Path) -> None:
    """Unmount everything in a system, then remove it; the removal never follows a mount."""
    for point in reversed(mounted(root)):
        subprocess.run(["umount", point], check=True)
    assert not mounted(root), f"{root} still has mounts in it: {mounted(root)}"
    if root.exists():
        shutil.rmtree(root)


def mounted(root: Path) -> list[str]:
    """The mount points in `root`, as this process sees them."""
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
        """Make a clean clone of the newest commit in the user's home."""
        target = f"{self.root}{self.clone_folder}"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-hardlinks", repository, target], check=True, timeout=STEP_S_MAX
        )
        self.as_root("chown", "-R", f"{self.user}:", self.clone_folder)

    def does(self, *command: str, network: bool = True) -> str:
        """Run a command in the clone as the user and return its output. Raises Failed."""
        done = self._run(self._entered(command, network))
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{ended(done.stdout)}")
        return done.stdout

    def fails(self, *command: str, told: str) -> None:
        """Run a command in the clone as the user; it must fail with the sentence `told`. Raises Failed."""
        done = self._run(self._entered(command, network=True))
        if done.returncode == 0 or told not in done.stdout:
            raise Failed(f"{' '.join(command)} was to fail with {told!r}, and said:\n{ended(done.stdout)}")

    def as_root(self, *command: str) -> None:
        """Run a command in the system as root."""
        done = self._run(["chroot", str(self.root), *command])
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{ended(done.stdout)}")

    def megabytes(self, name: str) -> int:
        """The disk space of a folder in the clone, in MB."""
        size = subprocess.run(
            ["du", "-sm", f"{self.root}{self.clone_folder}/{name}"], capture_output=True, text=True, check=True
        )
        return int(size.stdout.split()[0])

    def _entered(self, command: tuple[str, ...], network: bool) -> list[str]:
        # without a network, the namespace has its own loopback only: every port is free, and no other host is reachable
        alone = [] if network else ["unshare", "--net", sys.executable, "-m", "tests.programs.fresh.loopback"]
        as_user = (
            [] if self.user == "root" else ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        )
        words = ["sh", "-c", 'cd "$0" && exec "$@"', self.clone_folder, *command]
        return [*alone, "chroot", str(self.root), *as_user, *words]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        machine = dict(os.environ)  # noqa: TID251  the variables for registries are passed on
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
        """Copy this machine's configuration for registries into the system."""
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
    """The last lines of a command's output."""
    return "\n".join(text.splitlines()[-LINES_SHOWN_MAX:])
