"""One process at a time uses a folder, and a killed one leaves it free."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.process.folder_lock import FolderLock, FolderTaken
from tests.system.processes import ROOT

HOLDS = """
import sys
from pathlib import Path
from infra.process.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_folder_is_made_and_taken_until_it_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "collect"
    lock = FolderLock(folder)
    with pytest.raises(FolderTaken, match=r"another process uses .*collect"):
        FolderLock(folder)
    lock.release()
    FolderLock(folder).release()


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FolderTaken):
            FolderLock(tmp_path)
        other.send_signal(signal.SIGKILL)
    FolderLock(tmp_path).release()


def test_a_file_in_the_place_of_the_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "collect").write_text("")
    with pytest.raises(OSError, match="exists"):
        FolderLock(tmp_path / "collect")
