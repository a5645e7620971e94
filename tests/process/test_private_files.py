"""The files that a node keeps beside its database are private to its user: who can open a lock can stop the writer."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.market.stream_hub import Hub
from app.node.prepare import prepare
from app.ports.coordination import RpcRequest, RpcResponse
from app.settings import load
from infra.local.metrics_folder import MetricsFolder
from infra.local.rate_state import LocalRateState
from infra.local.time_file import TimeFile
from infra.process.clock import SystemClock
from infra.process.private_file import open_private
from infra.sqlite.lease import WriterLease
from infra.sqlite.sqlite_store import SqliteWriter
from infra.telemetry import Telemetry
from tests.coordination.local_lines import LocalStreamFanoutServer, LocalWriterRpc

NAMES = {"k.db", "k.db-wal", "k.db-shm", "k.db.lock", "k.db.weight", "k.db.time", "k.db.line", "k.db.streams"}
NOBODY = 65_534
FLOCK = shutil.which("flock")
CANNOT_OPEN = 66  # flock's exit status


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()}


async def nothing(asked: RpcRequest) -> RpcResponse:
    return RpcResponse(200, [], b"")


async def everything_in(folder: Path) -> dict[str, int]:
    """The file modes of everything that a writer with workers keeps, read while it runs."""
    database, clock = folder / "k.db", SystemClock()
    lease, rate_state = (
        WriterLease(f"sqlite:///{database}"),
        LocalRateState(database.with_name("k.db.weight"), clock, print),
    )
    assert await lease.try_acquire("http://127.0.0.1:8000")
    await rate_state.update(lambda state: None)
    TimeFile(database).write(b"0 0 ")
    line, streams, counted = LocalWriterRpc(database), LocalStreamFanoutServer(database), MetricsFolder(database)
    telemetry = Telemetry("ERROR")
    telemetry.share_in(counted.path)
    async with AsyncExitStack() as at_the_end:
        store = await SqliteWriter.open(f"sqlite:///{database}", clock)
        at_the_end.push_async_callback(store.close)
        at_the_end.push_async_callback(lease.release)
        for each in (rate_state.close, counted.remove):
            at_the_end.callback(each)
        await store.save_stand_down(0, "")  # a write, so that the write-ahead log exists
        await line.open(nothing)
        at_the_end.push_async_callback(line.close)
        await streams.open(Hub(clock))
        at_the_end.push_async_callback(streams.close)
        telemetry.share()
        assert set(modes(counted.path).values()) == {0o600}
        return modes(folder)


async def test_every_file_beside_the_database_is_the_users_alone(tmp_path: Path, umask: int) -> None:
    found = await everything_in(tmp_path)
    (folder,) = set(found) - NAMES
    assert found == dict.fromkeys(NAMES, 0o600) | {folder: 0o700}


async def test_files_that_an_earlier_version_left_open_are_closed(tmp_path: Path) -> None:
    await everything_in(tmp_path)
    for name, mode in (("k.db", 0o644), ("k.db.lock", 0o644), ("k.db.weight", 0o666)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    found = await everything_in(tmp_path)
    assert (found["k.db.lock"], found["k.db.weight"]) == (0o600, 0o600)
    assert {found[name] for name in ("k.db", "k.db-wal", "k.db-shm")} == {0o640}, "a group is the operator's choice"


@pytest.mark.skipif(os.geteuid() != 0 or FLOCK is None, reason="becoming another user takes root")
async def test_another_user_cannot_hold_a_lock_on_any_of_them(tmp_path: Path) -> None:
    await everything_in(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    assert [held_by_another(tmp_path / name) for name in ("k.db", "k.db.lock", "k.db.weight")] == [CANNOT_OPEN] * 3


def held_by_another(path: Path) -> int:
    """Try to lock the file as a user without rights; return flock's exit status. Who can read a file can lock it."""
    assert FLOCK is not None, "the test is skipped"
    return subprocess.call([FLOCK, "--shared", "--nonblock", path, "true"], user=NOBODY, group=NOBODY, extra_groups=[])


async def test_a_link_that_somebody_put_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "k.db.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        await WriterLease(f"sqlite:///{tmp_path}/k.db").try_acquire("")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "k.db.lock")
    assert victim.read_text() == "precious"


async def test_a_database_that_prepare_made_is_the_users_alone(tmp_path: Path) -> None:
    await prepare(load({"db_url": f"sqlite:///{tmp_path}/k.db"}, env_file=None))
    assert stat.S_IMODE((tmp_path / "k.db").stat().st_mode) == 0o600
