from pathlib import Path

import pytest

REALDATA = Path(__file__).parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Recorded exchange data that lies beside the project; tests that need it skip visibly without it."""
    if not REALDATA.is_dir():
        pytest.skip(f"no recorded exchange data in {REALDATA}")
    return REALDATA
