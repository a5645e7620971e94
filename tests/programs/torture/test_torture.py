"""A small number of kills at moments drawn from a seed; `make torture KILLS=100` is the long run."""

from pathlib import Path

from tests.programs.torture.torture import table, torture

KILLS = 10
SEED = 1


async def test_killed_at_any_moment_under_load(tmp_path: Path) -> None:
    print(f"again: make torture KILLS={KILLS} SEED={SEED}")
    async with torture(tmp_path, seed=SEED, kills=KILLS, told=print) as run:
        await run.run(KILLS)
        assert len(run.kills) == KILLS
        assert {kill.moment for kill in run.kills} == set(run.moments), "every moment had its turn"
        assert run.last.rows > 50_000
        print(table(run))
