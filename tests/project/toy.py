"""A tiny project and package index, made on the spot to test the set-up without a network."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).parents[2]
OLDEST_PIP: Final = Path(sys.prefix) / "oldest-pip"
NO_INDEX: Final = {"PIP_NO_INDEX": "1"}
LOCKS: Final = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-dev.lock",
    "tests/project/oldest-pip.lock",
)

PROJECT: Final = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "klinenode"
version = "0.1.0"
"""
BACKEND: Final = """
import pathlib, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "klinenode-0.1.0-py3-none-any.whl"
    info = "klinenode-0.1.0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.writestr("klinenode.pth", str(pathlib.Path.cwd()))
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: klinenode\\nVersion: 0.1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\nklinenode = main:main\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
MAIN: Final = "def main() -> None:\n    print('klinenode runs')\n"


class Toy:
    """A project for deploy/setup.sh, and the package index it installs from."""

    def __init__(self, folder: Path) -> None:
        self.index = folder / "index"
        self.index.mkdir()
        self.folder = folder / "clone"
        for name in ("deploy/setup.sh", "deploy/setup.py"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name, text in (("pyproject.toml", PROJECT), ("backend.py", BACKEND), ("main.py", MAIN)):
            (self.folder / name).write_text(text)
        (self.folder / "tests/project").mkdir(parents=True)
        for lock in LOCKS:
            self.lock(lock)

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def release(self, name: str, version: str, *metadata: str) -> str:
        """Add a release to the index; return the lines that pin it in a lock."""
        path = self.index / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo(f"{name}.py"), f"version = '{version}'\n")
            wheel.writestr(zipfile.ZipInfo(f"{info}/METADATA"), "\n".join(head) + "\n")
            wheel.writestr(
                zipfile.ZipInfo(f"{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
        return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def lock(self, name: str, *pins: str) -> None:
        (self.folder / name).write_text("".join(pins))

    def environment_with_the_oldest_pip(self) -> None:
        """Create a virtual environment with the oldest supported pip, as some systems ship it."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True, timeout=PATIENCE_S)
        (site,) = self.venv.glob("lib/python*/site-packages")
        for part in OLDEST_PIP.glob("pip*"):
            shutil.copytree(part, site / part.name)
        script = f"#!{self.venv}/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
        (self.venv / "bin/pip").write_text(script)
        (self.venv / "bin/pip").chmod(0o755)

    def command(self, level: str, venv: str = ".venv") -> list[str]:
        return ["/bin/sh", "deploy/setup.sh", level, venv]

    def environ(self, **more: str) -> dict[str, str]:
        """The machine's environment variables without pip's own, with `more` added."""
        machine = dict(os.environ)  # noqa: TID251  passed to child processes
        kept = {name: value for name, value in machine.items() if not name.startswith("PIP_") and name != "PYTHON"}
        return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(self.index), **more}

    def set_up(self, level: str, *, venv: str = ".venv", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run deploy/setup.sh as make does."""
        return run(*self.command(level, venv), cwd=self.folder, env=self.environ(**(environ or NO_INDEX)))

    def installed(self) -> dict[str, str]:
        """Versions by name of the installed packages, without those of every environment."""
        (site,) = self.venv.glob("lib/python*/site-packages")
        names = [found.name.removesuffix(".dist-info").rsplit("-", 1) for found in site.glob("*.dist-info")]
        return {name: version for name, version in names if name not in {"pip", "setuptools", "klinenode"}}

    def speaks(self) -> bool:
        """Whether the installed command line starts."""
        return run(str(self.venv / "bin/klinenode"), cwd=self.folder).stdout == "klinenode runs\n"


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
