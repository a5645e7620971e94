"""The small database that exports are made of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.exporting.held import Held


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    made = await Held.made(tmp_path)
    yield made
    await made.close()
