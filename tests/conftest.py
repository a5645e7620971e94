import signal
from pathlib import Path

import pytest

REALDATA = Path(__file__).parents[2] / "shared" / "realdata"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background has it ignore Ctrl-C, and so would every program a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Recorded exchange data that lies beside the project; tests that need it skip visibly without it."""
    if not REALDATA.is_dir():
        pytest.skip(f"no recorded exchange data in {REALDATA}")
    return REALDATA
