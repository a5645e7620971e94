"""Garbage in reference cycles is collected by scheduled collections, not while rows are read."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COMMAND_S_MAX: Final = 60.0
PROGRAM: Final = """
import gc
import weakref
from infra.process.gc_schedule import WHOLE_EVERY, GcSchedule

class Ring:
    def __init__(self):
        self.itself = self

def looked_through_all():
    return gc.get_stats()[2]["collections"]

def by_itself():
    before, kept = looked_through_all(), []
    for _ in range(200):
        kept.append([[] for _ in range(10_000)])
    return looked_through_all() - before

python_does = by_itself()
garbage = GcSchedule()
we_do = by_itself()

rings = [Ring() for _ in range(2)]
dead = [weakref.ref(ring) for ring in rings]
rings.pop()
garbage.look()
new_is_found = dead[1]() is None
rings.clear()
garbage.look()
old_waits = dead[0]() is not None
for _ in range(WHOLE_EVERY):
    garbage.look()
print(python_does > 0, we_do, new_is_found, old_waits, dead[0]() is None)
"""


def test_garbage_is_looked_for_when_it_is_asked_for_and_all_of_it_is_found_in_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["True", "0", "True", "True", "True"]
