"""Shells complete commands, options and choices by the printed script."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app

BASH = shutil.which("bash")


def script(shell: str) -> str:
    done = CliRunner().invoke(app, ["completion", shell])
    assert done.exit_code == 0, done.output
    return done.stdout


def completed(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    assert BASH is not None
    (folder / "klinenode.bash").write_text(script("bash"))
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"source klinenode.bash; COMP_WORDS=(klinenode {quoted}); COMP_CWORD={len(words)}; _klinenode; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run([BASH, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(BASH is None, reason="bash is not here")
def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    assert completed(tmp_path, "do") == {"doctor"}
    assert completed(tmp_path, "de") == {"demo", "demo-collector"}
    assert completed(tmp_path, "gaps", "--s") == {"--symbol", "--start"}
    assert completed(tmp_path, "export", "out", "--format", "") == {"parquet", "arrow", "csv", "sqlite", "marketstore"}
    assert completed(tmp_path, "key", "") == {"new"}
    assert "--per-minute" in completed(tmp_path, "key", "new", "--")
    assert completed(tmp_path, "completion", "") >= {"bash", "zsh", "fish"}
    assert completed(tmp_path, "export", "data/") == set(), "files are offered instead"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_accepts_its_script(shell: str, tmp_path: Path) -> None:
    text = script(shell)
    assert all(word in text for word in ("doctor", "migrate-store", "per-minute", "marketstore"))
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not here: only the words were looked at")
    (tmp_path / "script").write_text(text)
    subprocess.run([program, "-n", str(tmp_path / "script")], check=True)
