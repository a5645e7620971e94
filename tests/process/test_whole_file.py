"""A file that is replaced as a whole has the old content or the new one, for its own user alone."""

import os
import stat
from pathlib import Path

import pytest

from infra.process.whole_file import BYTES_MAX, WholeFile


def test_what_was_written_is_read_and_the_folder_is_made(tmp_path: Path) -> None:
    file = WholeFile(tmp_path / "collect" / "wish.json")
    assert file.read() is None
    file.write(b"one")
    file.write(b"2")
    assert file.read() == b"2"
    assert stat.S_IMODE((tmp_path / "collect" / "wish.json").stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "collect").iterdir()] == ["wish.json"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def fsync(fd: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        sync(fd)

    def replace(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    WholeFile(tmp_path / "wish.json").write(b"x")
    assert done == ["file", "rename", "folder"]


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path) -> None:
    file = WholeFile(tmp_path / "wish.json")
    file.write(b"old")
    (tmp_path / "wish.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        file.write(b"new")
    assert file.read() == b"old"


def test_a_file_of_strange_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "wish.json"
    with path.open("wb") as file:
        file.truncate(BYTES_MAX + 1)
    with pytest.raises(OSError, match="larger than"):
        WholeFile(path).read()
