"""Freed memory is returned to the system, and SQLite does not count its allocations."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND_S_MAX = 60.0
PROGRAM = """
import threading
from pathlib import Path
from infra.process.malloc import return_large_blocks

def resident_kb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

def work():
    global small
    del (first := [b"x" * (8 << 20)])[:]  # from here on glibc takes such blocks from an arena
    large, small = [], []
    for number in range(16):
        large.append(b"%d" % number * (4 << 20))
        small.append(bytearray(700))
    large.clear()

is_set = return_large_blocks()
before = resident_kb()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(is_set, (resident_kb() - before) // 1024)
"""


SCATTERED = """
from pathlib import Path
from infra.process.malloc import return_free_pages, return_large_blocks

def resident_kb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

is_set = return_large_blocks()
kept, dropped = [], []
for _ in range(2_000):
    dropped.append(bytearray(20_000))
    kept.append(bytearray(700))
full = resident_kb()
dropped.clear()
freed = resident_kb()
return_free_pages()
print(is_set, (full - freed) // 1024, (full - resident_kb()) // 1024)
"""

COUNTED = """
import ctypes, sys
from infra.sqlite.library import extension, sqlite3, stop_counting

is_set = stop_counting() if sys.argv[1] == "without" else True
connection = sqlite3.connect(":memory:")
connection.execute("CREATE TABLE t (a TEXT)")
connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 1000)
assert connection.execute("SELECT count(*), sum(length(a)) FROM t").fetchone() == (1000, 1_000_000)
print(is_set, is_set and ctypes.CDLL(getattr(extension, "__file__", None)).sqlite3_memory_used())
"""


def run(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_large_blocks_go_back_to_the_system() -> None:
    is_set, kept_mb = run(PROGRAM)
    if is_set == "False":
        pytest.skip("not glibc")
    assert int(kept_mb) < 8, "glibc by itself keeps 88 MB here"


def test_pages_that_are_free_between_small_blocks_go_back_to_the_system() -> None:
    is_set, at_once_mb, then_mb = run(SCATTERED)
    if is_set == "False":
        pytest.skip("not glibc")
    assert int(at_once_mb) < 4, "glibc by itself keeps 38 MB here"
    assert int(then_mb) > 25


def test_sqlite_does_not_count_its_memory() -> None:
    is_set, counted = run(COUNTED, "without")
    if is_set == "False":
        pytest.skip("SQLite's library is out of reach")
    assert int(counted) == 0
    assert int(run(COUNTED, "with")[1]) > 1_000_000, "by itself it does"
