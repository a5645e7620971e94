"""The lock file of an SQLite database. What holds for every lease: tests/stores/test_lease.py."""

import json
import os
import subprocess
from pathlib import Path

from infra.sqlite.lease import WriterLease


async def test_who_deletes_the_lock_file_takes_the_lease_away(url: str, db_file: Path) -> None:
    lease, other = WriterLease(url), WriterLease(url)
    assert not lease.is_held()
    assert await lease.try_acquire("http://one")
    assert lease.is_held()
    db_file.with_name("klinenode.db.lock").unlink()
    assert not lease.is_held(), "nobody else sees it any more"
    assert await other.try_acquire("http://two")
    assert other.is_held()
    assert not lease.is_held()
    await lease.release()
    await other.release()


def does_exist(file: Path) -> bool:
    return file.exists()


async def test_the_lock_file_says_who_holds_it_beside_the_database(url: str, db_file: Path) -> None:
    lease = WriterLease(url)
    assert await lease.try_acquire("http://[::1]:8000")
    note = json.loads(db_file.with_name("klinenode.db.lock").read_bytes())
    assert note == {"pid": os.getpid(), "url": "http://[::1]:8000"}
    assert not does_exist(db_file)
    await lease.release()


def a_child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], close_fds=False)


async def test_a_child_process_does_not_keep_the_lease(url: str) -> None:
    lease = WriterLease(url)
    assert await lease.try_acquire("http://parent")
    with a_child() as child:
        await lease.release()
        assert await lease.try_acquire("http://parent")
        await lease.release()
        child.kill()


async def test_every_name_of_a_file_leads_to_the_same_lease(url: str, db_file: Path, tmp_path: Path) -> None:
    lease = WriterLease(url)
    assert await lease.try_acquire("http://one")
    (tmp_path / "link.db").symlink_to(db_file)
    assert await WriterLease(f"sqlite:///{tmp_path}/link.db").holder() == "http://one"
    await lease.release()


async def test_a_holder_that_has_not_written_its_address_yet_is_still_a_holder(url: str, db_file: Path) -> None:
    lease = WriterLease(url)
    assert await lease.try_acquire("http://one")
    os.truncate(db_file.with_name("klinenode.db.lock"), 5)
    assert await WriterLease(url).holder() == ""
    await lease.release()
