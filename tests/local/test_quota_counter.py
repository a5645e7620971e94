"""Processes of one database count each key's requests together, exactly but for the same instant."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.events import Event, QuotasNotShared
from app.ports.coordination import QUOTA_ROWS
from infra.local.quota_counter import LocalQuotaCounter

PERIOD = 30_000_000 << 12
ADDS = """
import sys
from pathlib import Path
from infra.local.quota_counter import LocalQuotaCounter
counter = LocalQuotaCounter(Path(sys.argv[1]), print)
counter.open()
print("open", flush=True)
sys.stdin.readline()
for _ in range(20_000):
    counter.add(7, int(sys.argv[2]))
print("added", flush=True)
sys.stdin.readline()
"""


def counter(folder: Path, events: list[Event] | None = None) -> LocalQuotaCounter:
    seen: list[Event] = [] if events is None else events
    made = LocalQuotaCounter(folder / "k.db", seen.append)
    made.open()
    return made


def test_counts_are_those_of_all_and_start_anew_with_each_period(tmp_path: Path) -> None:
    one, two = counter(tmp_path), counter(tmp_path)
    for each, times in ((one, 3), (two, 4)):
        for _ in range(times):
            each.add(QUOTA_ROWS - 1, PERIOD)
    one.add(0, PERIOD)
    assert [each.used(QUOTA_ROWS - 1, PERIOD) for each in (one, two)] == [7, 7]
    assert [each.used(0, PERIOD) for each in (one, two)] == [1, 1]
    assert one.used(0, PERIOD + 1) == 0
    two.add(0, PERIOD + 1)
    assert [one.used(0, PERIOD), one.used(0, PERIOD + 1)] == [1, 1], "each has counted in its own period"


def test_what_a_dead_process_has_counted_stands(tmp_path: Path) -> None:
    one, two = counter(tmp_path), counter(tmp_path)
    two.add(0, PERIOD)
    two.close()
    assert one.used(0, PERIOD) == 1
    three = counter(tmp_path)
    three.add(0, PERIOD)
    assert one.used(0, PERIOD) == 2


def test_real_processes_lose_no_count(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", ADDS, str(tmp_path / "k.db"), str(PERIOD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(2)
    ]
    try:
        for step in ("open", "added"):
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline().strip() == step
            for worker in workers if step == "open" else ():
                assert worker.stdin is not None
                worker.stdin.write("\n")
        assert counter(tmp_path).used(7, PERIOD) == 40_000
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_a_process_that_cannot_share_counts_alone_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "k.db.quotas").mkdir()
    events: list[Event] = []
    alone = counter(tmp_path, events)
    alone.add(0, PERIOD)
    assert alone.used(0, PERIOD) == 1
    assert [type(event) for event in events] == [QuotasNotShared]


@pytest.mark.parametrize("content", [b"", b"\xff" * 100_000, b"\0" * (1 << 20)])
def test_a_file_with_anything_in_it_can_be_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k.db.quotas").write_bytes(content)
    one = counter(tmp_path)
    one.add(1, PERIOD)
    assert one.used(1, PERIOD) == 1
