"""A process bounds its connections by its limit of open files, and raises that limit as far as it needs."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from app.settings import Settings
from app.sockets.connections import CONNECTIONS_MIN, FILES_BESIDE, SURPLUS_MAX

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = (
    "import resource; from app.server import allowed_connections; from app.settings import Settings; "
    "settings = Settings(_env_file=None, stream_clients_max=100, connections_max=300); "
    "print(allowed_connections(settings), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
)
BESIDE: Final = 100 + SURPLUS_MAX + FILES_BESIDE


@pytest.mark.parametrize(
    ("hard", "allowed", "soft"),
    [
        (BESIDE + 300, 300, BESIDE + 300),
        (BESIDE + 1_000, 300, BESIDE + 300),
        (BESIDE + 120, 120, BESIDE + 120),
        (BESIDE - 100, CONNECTIONS_MIN, BESIDE - 100),
    ],
)
def test_as_many_connections_as_files_allow(hard: int, allowed: int, soft: int) -> None:
    program = [sys.executable, "-c", PROGRAM]
    limited = ["sh", "-c", f'ulimit -Sn 128 && ulimit -Hn {hard} && exec "$@"', "sh", *program]
    told = subprocess.run(limited, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert told.split() == [str(allowed), str(soft)]


def test_the_settings_own_number_fits_into_what_systems_allow() -> None:
    settings = Settings(_env_file=None)
    assert settings.connections_max + settings.stream_clients_max + SURPLUS_MAX + FILES_BESIDE < 4_096, (
        "the hard limit of a container or service is 4,096 or more"
    )
