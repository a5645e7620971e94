"""The documented backup, taken while the node runs, and the documented restore: nothing is wrong or missing."""

import re
import shutil
import signal
import sqlite3  # noqa: TID251  the copy is looked at by a library that is not the node's
import subprocess
from pathlib import Path

import pytest

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import ROOT, Place, Programs, until

SQLITE3 = shutil.which("sqlite3")
DOCUMENT = (ROOT / "docs/operations.md").read_text()


def documented() -> tuple[str, str]:
    """The shell commands for backup and restore."""
    [section] = re.findall(r"\n## Backup\n(.*?)\n## ", DOCUMENT, re.DOTALL)
    backup, restore = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return backup, restore


def shell(commands: str, folder: Path) -> None:
    done = subprocess.run(["sh", "-euc", commands], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def rows_of(path: Path) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA foreign_key_check").fetchall() == []
        counted = copy.execute("SELECT (SELECT count(*) FROM kline_1m) + (SELECT count(*) FROM block)").fetchone()
    copy.close()
    return int(counted[0])


@pytest.mark.skipif(SQLITE3 is None, reason="sqlite3 is not installed (apt-get install sqlite3)")
async def test_a_copy_of_a_running_node_is_whole_and_is_restored(tmp_path: Path) -> None:
    backup, restore = documented()
    (tmp_path / "data").mkdir()
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, database="data/klinenode.db", settings={"BACKFILL_DAYS": "5"})
        node = place.serve()

        async def is_filling() -> bool:
            return bool((await place.get("/v1/coverage?limit=1")).json()["wished"]) and bool(node.events("GapsCounted"))

        await until(is_filling, "history is being filled")
        shell(backup.replace("klinenode-backup", "early"), tmp_path)  # in the middle of commits
        early = rows_of(tmp_path / "early.db")
        await until(place.is_whole, "the wish is held")
        shell(backup, tmp_path)
        whole = rows_of(tmp_path / "klinenode-backup.db")
        print(f"MEASURED rows and blocks of the copies: {early} while it was filled, {whole} when it was whole")
        assert whole > 0
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0

        (tmp_path / "data/klinenode.db").write_bytes(b"a disk that has died")
        shell(restore, tmp_path)
        requests = len(sandbox.journal.since(0))
        again = place.serve()
        await until(place.is_whole, "the restored node holds the wish")
        fetched = sum(entry.path == "/fapi/v1/klines" for entry in sandbox.journal.since(0)[requests:])
        print(f"MEASURED {fetched} klines requests after the restore")
        code, said = await programs.run("verify", env=place.env)
        assert code == 0, said
        again.signal(signal.SIGTERM)
        assert await again.ended() == 0

        (tmp_path / "early.db").replace(tmp_path / "klinenode-backup.db")
        shell(restore, tmp_path)
        third = place.serve()
        await until(place.is_whole, "what the early copy lacked has been fetched")
        code, said = await programs.run("verify", env=place.env)
        assert code == 0, said
        third.signal(signal.SIGTERM)
        assert await third.ended() == 0
