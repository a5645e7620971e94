"""At most one process holds the writer lease, and a dead process holds none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.sqlite.lease import WriterLease

HOLDER = """
import sys
from infra.sqlite.lease import WriterLease
lease = WriterLease(sys.argv[1])
print(lease.try_acquire("http://127.0.0.1:8000"), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_holder(url: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_second_process_cannot_take_it_and_kill_9_frees_it(url: str, request: pytest.FixtureRequest) -> None:
    lease = WriterLease(url)
    assert lease.holder() is None
    with another_holder(url, request.config.rootpath) as process:
        assert lease.holder() == "http://127.0.0.1:8000"
        assert not lease.try_acquire("http://127.0.0.1:9000")
        assert lease.holder() == "http://127.0.0.1:8000"
        process.kill()
        process.wait()
        assert lease.holder() is None, "the note of the dead holder is not believed"
        assert lease.try_acquire("http://127.0.0.1:9000")
        assert lease.holder() == WriterLease(url).holder() == "http://127.0.0.1:9000"
    lease.release()
    lease.release()
    assert lease.holder() is None


def test_who_deletes_the_lock_file_takes_the_lease_away(url: str, db_file: Path) -> None:
    lease, other = WriterLease(url), WriterLease(url)
    assert not lease.is_held()
    assert lease.try_acquire("http://one")
    assert lease.is_held()
    db_file.with_name("klinenode.db.lock").unlink()
    assert not lease.is_held(), "nobody else sees it any more"
    assert other.try_acquire("http://two")
    assert other.is_held()
    assert not lease.is_held()
    lease.release()
    other.release()


def test_two_leases_of_one_process_exclude_each_other(url: str) -> None:
    first, second = WriterLease(url), WriterLease(url)
    assert first.try_acquire("http://first")
    assert first.try_acquire("http://first:8001"), "the holder may say its address again"
    assert not second.try_acquire("http://second")
    assert second.holder() == "http://first:8001"
    first.release()
    assert second.try_acquire("http://second")
    assert first.holder() == "http://second"
    second.release()


def test_the_lock_file_says_who_holds_it_beside_the_database(url: str, db_file: Path) -> None:
    lease = WriterLease(url)
    assert lease.try_acquire("http://[::1]:8000")
    note = json.loads(db_file.with_name("klinenode.db.lock").read_bytes())
    assert note == {"pid": os.getpid(), "url": "http://[::1]:8000"}
    assert not db_file.exists()
    lease.release()


def test_a_child_process_does_not_keep_the_lease(url: str) -> None:
    lease = WriterLease(url)
    assert lease.try_acquire("http://parent")
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lease.release()
        assert lease.try_acquire("http://parent")
        lease.release()
        child.kill()


def test_every_name_of_a_file_leads_to_the_same_lease(url: str, db_file: Path, tmp_path: Path) -> None:
    lease = WriterLease(url)
    assert lease.try_acquire("http://one")
    (tmp_path / "link.db").symlink_to(db_file)
    assert WriterLease(f"sqlite:///{tmp_path}/link.db").holder() == "http://one"
    lease.release()


def test_a_holder_that_has_not_written_its_address_yet_is_still_a_holder(url: str, db_file: Path) -> None:
    lease = WriterLease(url)
    assert lease.try_acquire("http://one")
    os.truncate(db_file.with_name("klinenode.db.lock"), 5)
    assert WriterLease(url).holder() == ""
    lease.release()
