"""The token that nobody but the node's own user can read: one for all processes, kept, and renewed when it leaked."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.local.token_file import TokenFile


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "k.db")
    assert file.read() is None, "reading makes none"
    token = file.token()
    assert (file.path, mode(file.path)) == (tmp_path / "k.db.token", 0o600)
    assert file.path.read_text() == f"{token}\n"
    assert len(token) >= 43
    assert TokenFile(tmp_path / "k.db").token() == TokenFile(tmp_path / "k.db").read() == token, "over a restart"
    assert TokenFile(tmp_path / "other.db").token() != token
    file.path.unlink()
    assert file.token() != token, "who deletes it renews it"


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    files = [TokenFile(tmp_path / "k.db") for _ in range(32)]
    with ThreadPoolExecutor(32) as threads:
        assert len(set(threads.map(TokenFile.token, files))) == 1


@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o604, 0o666])
def test_one_that_others_could_read_is_renewed(tmp_path: Path, open_mode: int) -> None:
    file = TokenFile(tmp_path / "k.db")
    leaked = file.token()
    file.path.chmod(open_mode)
    renewed = file.token()
    assert renewed != leaked
    assert mode(file.path) == 0o600
    assert file.token() == renewed


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"x" * 5_000, b"\xff" * 43, b"two\nlines of more than thirty-two bytes", b"\0" * 43]
)
def test_one_that_no_header_can_carry_or_that_was_cut_is_made_new(tmp_path: Path, content: bytes) -> None:
    file = TokenFile(tmp_path / "k.db")
    file.path.write_bytes(content)
    file.path.chmod(0o600)
    assert file.read() is None
    token = file.token()
    assert (file.read(), len(token)) == (token, 43)


def test_the_operators_own_is_taken(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "k.db")
    file.path.write_text("0123456789abcdef0123456789abcdef")
    file.path.chmod(0o600)
    assert file.token() == file.read() == "0123456789abcdef0123456789abcdef"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
def test_one_that_another_user_put_there_is_not_believed(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "k.db")
    file.token()
    os.chown(file.path, 65_534, 65_534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        file.token()
    file.path.unlink()
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        file.token()
    assert not (tmp_path / "elsewhere").exists()
