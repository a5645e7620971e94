"""The faults of a seed's database if that is kept by Postgres: instead of those of a disk, and with those of a network.

They are drawn beside the plan, so that everything else of a seed is the same on both stores.
"""

from dataclasses import replace
from random import Random
from typing import Final

from tests.programs.sim.on_postgres import SURFACE
from tests.programs.sim.schedule import Plan, Step, network_fault

INSTEAD: Final = {"disk_full": "database_stop", "disk_read_only": "database_demote"}
"""By fault of a disk: the fault of a server. A locked database and a slow disk mean the same for both."""
UNSEEN: Final = "disk_low"
"""The fault that a node does not see in its server."""
SESSIONS: Final = 1_000
"""The numbers by which a session is chosen."""


def with_database(drawn: Plan) -> Plan:
    """Return the plan with the faults of a database that a server keeps."""
    chance = Random(f"database:{drawn.seed}")
    steps = [replace(step, what=INSTEAD.get(step.what, step.what)) for step in drawn.steps if step.what != UNSEEN]
    faults = [network_fault(chance, SURFACE) for _ in range(chance.choice((1, 2, 5)))]
    faults += [("session_end", {"number": chance.randrange(SESSIONS)}) for _ in range(chance.choice((0, 1, 4)))]
    steps += [Step(round(chance.uniform(0, drawn.chaos_s), 2), *fault) for fault in faults]
    return replace(drawn, steps=tuple(sorted(steps, key=lambda step: step.at_s)))
