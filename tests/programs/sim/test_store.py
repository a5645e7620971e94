"""On the simulated disk a database behaves as it does with threads."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from infra.sqlite.sqlite_store import SqliteReader
from tests.programs.sim.loop import SimLoop
from tests.programs.sim.store import Disk, on_the_loop


def test_a_read_that_is_given_up_while_its_connection_opens_raises_nothing_else(tmp_path: Path) -> None:
    loop = SimLoop()
    disk = Disk(loop, Random(1))
    disk.slow_down(6.0, 60.0)

    async def read() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await SqliteReader(f"sqlite:///{tmp_path / 'none.db'}").ledgers()

    with on_the_loop(disk, loop):
        loop.run_until_complete(read())
    loop.close()
