"""The collector against ccxt.pro and cryptofeed on the same frames, in one process of an interpreter that has these."""

import asyncio
import io
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from app.domain.records import DataType
from tests.nats_server import SERVER, NatsServer
from tests.programs.bench.collector_race import LATENCY_PER_S, Result, Round
from tests.programs.bench.collector_tapes import record_all
from tests.programs.bench.figures import Figure, compared
from tests.programs.bench.pinned import PinnedClock
from tests.programs.bench.stage import Run
from tests.system.processes import ROOT

PART: Final = "collector"
PEERS: Final = "BENCH_PEERS"
"""The variable that names an interpreter with ccxt, cryptofeed, msgspec, nats-py and xxhash, perhaps a command."""
RACE_S_MAX: Final = 900.0
SHIPPED: Final = ("app", "infra/nats", "infra/spill", "infra/process", "tests/programs/bench")
"""What the race needs of this repository, without data files."""
_PACKAGES: Final = ("infra/__init__.py", "tests/__init__.py", "tests/programs/__init__.py")
_BOOT: Final = """
import sys, tempfile, pathlib, runpy
with tempfile.TemporaryDirectory() as folder:
    archive = pathlib.Path(folder) / "race.zip"
    archive.write_bytes(sys.stdin.buffer.read())
    sys.path.insert(0, str(archive))
    import zipfile
    zipfile.ZipFile(archive).extract("tapes.json", folder)
    sys.argv = ["race", f"{folder}/tapes.json", *sys.argv[1:]]
    runpy.run_module("tests.programs.bench.collector_race", run_name="__main__")
"""


def command() -> list[str]:
    """The command of the interpreter that runs the race: that of BENCH_PEERS, or this one."""
    return shlex.split(os.environ.get(PEERS, "")) or [sys.executable]  # noqa: TID251  a setting of the bench
