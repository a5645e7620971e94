"""Memory that is given back goes back to the system, whatever small thing was made after it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND_S_MAX = 60.0
PROGRAM = """
import threading
from pathlib import Path
from infra.memory import return_large_blocks

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


def test_large_blocks_go_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=True
    )
    is_set, kept_mb = done.stdout.split()
    if is_set == "False":
        pytest.skip("not glibc")
    assert int(kept_mb) < 8, "glibc by itself keeps 88 MB here"
