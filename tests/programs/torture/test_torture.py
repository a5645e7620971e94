"""A small number of kills at moments drawn from a seed; `make torture KILLS=100` is the long run."""

from pathlib import Path

import pytest

from tests.programs.torture.torture import table, torture

KILLS = 10
SEED = 1


@pytest.mark.parametrize("store", ["sqlite"])  # postgres: make torture STORE=postgres, it takes two minutes
async def test_killed_at_any_moment_under_load(tmp_path: Path, store: str) -> None:
    print(f"again: make torture KILLS={KILLS} SEED={SEED} STORE={store}")
    async with torture(tmp_path, seed=SEED, kills=KILLS, told=print, store=store) as run:
        await run.run(KILLS)
        assert len(run.kills) == KILLS
        assert {kill.moment for kill in run.kills} == set(run.moments), "every moment had its turn"
        assert run.last.rows > 50_000
        print(table(run))
