"""Rolling windows equal a roll-up of each window alone, whatever the minutes are."""

import random

import pytest

from app.domain.columns import Columns
from app.domain.interval import MINUTE_MS
from app.domain.kline import Kline
from app.domain.rolling_windows import Windows, rolled
from app.domain.rollup import added_up

NOW_MS = 1_795_219_200_000


def minute(rng: random.Random, open_ms: int, decimals: int) -> Kline:
    """A minute with some of what the exchange has shown: no trades, equal prices, bare zeros, other decimals."""
    if rng.random() < 0.03:
        decimals = rng.choice([0, 1, 4, 8])

    def price() -> str:
        return f"{rng.randrange(1, 30) / 10:.{decimals}f}"

    def volume() -> str:
        return "0" if rng.random() < 0.2 else f"{rng.randrange(0, 5000) / 7:.{decimals}f}"

    trades = 0 if rng.random() < 0.3 else rng.randrange(1, 9)
    low, high = sorted([price(), price()], key=float)
    return Kline(open_ms, price(), high, low, price(), volume(), volume(), trades, volume(), volume())


@pytest.mark.parametrize("seed", range(25))
def test_windows_equal_the_roll_up_of_their_minutes(seed: int) -> None:
    rng = random.Random(seed)
    quiet = rng.random() < 0.2
    number, decimals = rng.randrange(0, 400), rng.choice([0, 2, 8])
    absent = set(rng.sample(range(number), number // 5)) if rng.random() < 0.5 else set()
    hole = rng.randrange(0, 400)
    minutes = [
        made._replace(trades=0) if quiet else made
        for each in range(number)
        if each not in absent and not hole <= each < hole + 70
        for made in [minute(rng, NOW_MS + each * MINUTE_MS, decimals)]
    ]
    step = rng.choice([1, 1, 2, 5, 60])
    windows = Windows(
        NOW_MS - 20 * MINUTE_MS, rng.choice([1, 2, 17, 90, 500]) * MINUTE_MS, step * MINUTE_MS, 420 // step
    )
    begins = range(windows.first_ms, windows.first_ms + windows.number * windows.step_ms, windows.step_ms)
    naive = [
        added_up([each for each in minutes if begin <= each.open_ms < begin + windows.length_ms], begin)
        for begin in begins
    ]
    assert list(rolled(Columns.of(minutes), windows)) == [each for each in naive if each is not None], f"seed {seed}"
