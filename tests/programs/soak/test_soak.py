"""The soak: it tells growth from noise, and its processes run and are measured."""

import random
from pathlib import Path

import pytest

from tests.programs.soak.soak import GAUGES, SHOWN, report, soak
from tests.programs.soak.trend import quantile_s, trend

TIMES_S = [5.0 * number for number in range(240)]  # twenty minutes


def noisy(level: float, an_hour: float, noise: float, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [level + an_hour * at_s / 3600 + rng.gauss(0, noise) for at_s in TIMES_S]


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_grows_and_noise_does_not(seed: int) -> None:
    """A leak of 1 MB a minute on top of 400 MB, against allocation noise of 2 MB."""
    leak = trend("m", TIMES_S, noisy(400, 60, 2, seed), noise_an_hour=16)
    assert leak.grows
    assert leak.slope_an_hour == pytest.approx(60, abs=4 * leak.error_an_hour)
    assert not trend("m", TIMES_S, noisy(400, 0, 2, seed), noise_an_hour=16).grows
    assert not trend("m", TIMES_S, noisy(400, -60, 2, seed), noise_an_hour=16).grows


def test_a_saw_is_flat_and_a_growing_saw_is_not() -> None:
    saw = [number % 60 for number in range(240)]
    assert not trend("wal", TIMES_S, saw, noise_an_hour=10).grows
    assert trend("wal", TIMES_S, [each + number for number, each in enumerate(saw)], noise_an_hour=10).grows


def test_a_few_more_in_the_end_are_no_growth() -> None:
    assert not trend("files", TIMES_S, [40.0] * 200 + [41.0] * 40, noise_an_hour=6).grows


@pytest.mark.parametrize(("share", "value_s"), [(0.5, 0.5), (0.9, 0.9), (0.99, 1.09), (1.0, 2.0)])
def test_quantiles_are_read_between_the_bounds_of_buckets(share: float, value_s: float) -> None:
    assert quantile_s({1.0: 100.0, 2.0: 100.0 + 10 / 9, float("inf"): 100.0 + 10 / 9}, share) == pytest.approx(
        value_s, rel=0.02
    )
    assert quantile_s({}, share) == 0.0


async def test_a_short_soak_measures_every_gauge(tmp_path: Path) -> None:
    async with soak(tmp_path, minutes=0.0, rate=10.0, symbols=4) as run:
        run.warm_up_min_s = 0.0
        await run.warm_up()
        await run.watch()
        result = run.result()
    assert {each["name"] for each in result["trends"]} == {*GAUGES, *SHOWN}
    gauges = {each["name"]: each["median"] for each in result["trends"]}
    assert all(
        gauges[name] > 0 for name in ("resident_bytes", "open_files", "threads", "tail_rows", "page_cache_bytes")
    )
    assert result["samples"] >= 3
    assert 0.5 < result["times_the_market"] / 10 < 2.0
    assert result["database_bytes"] > 0
    assert set(result["answers"]) == {"200"}
    assert result["verdict"] in report(result)
