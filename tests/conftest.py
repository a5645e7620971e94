import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres_server import end_shared_server
from tests.timescale_server import end_shared_timescale

REALDATA = Path(__file__).parents[2] / "shared" / "realdata"

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # a busy machine is no failure

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background makes it ignore SIGINT, and programs that tests start inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """End the servers that tests of this process have shared."""
    end_shared_server()
    end_shared_timescale()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of recorded exchange data, outside the repository; skips the test when it is missing."""
    if not REALDATA.is_dir():
        pytest.skip(f"no recorded exchange data in {REALDATA}")
    return REALDATA
