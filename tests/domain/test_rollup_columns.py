"""Rolling up whole days in columns gives the same as rolling up minute by minute."""

import random
from collections.abc import Mapping
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.columns import EMPTY, Columns
from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MINUTE_MS, Interval
from app.domain.kline import Kline, Precision, normalise
from app.domain.rollup import roll_up
from app.domain.rollup_columns import DayByDay, can_roll_up, roll_up_days

START_MS = 1_795_132_800_000
LONGER = [interval for interval in INTERVALS.values() if can_roll_up(interval)]


def days(seed: int, numbers: list[int], precision: Precision, quiet: float) -> list[Kline]:
    """The minutes of some days; a share `quiet` has no trades, and some have trades but no taker buys."""
    rng = random.Random(seed)
    price, quantity = precision

    def number(whole_max: int, decimals: int) -> str:
        text = f"{rng.randrange(whole_max)}.{rng.randrange(10**4):04}00"
        return text[: text.index(".") + 1 + decimals].rstrip(".")

    close = number(900, price)
    rows = []
    for day in numbers:
        is_quiet_day = rng.random() < quiet
        for open_ms in range(START_MS + day * DAY_MS, START_MS + (day + 1) * DAY_MS, MINUTE_MS):
            if is_quiet_day or rng.random() < quiet:
                row = Kline(open_ms, close, close, close, close, "0", "0", 0, "0", "0")
            else:
                low, open_, close, high = sorted((number(2_000, price) for _ in range(4)), key=float)
                taker, taker_quote = (
                    ("0", "0") if rng.random() < 0.1 else (number(90, quantity), number(90, sum(precision)))
                )
                volume, quote = number(3_000, quantity), number(90_000, sum(precision))
                row = Kline(open_ms, open_, high, low, close, volume, quote, rng.randrange(1, 500), taker, taker_quote)
            rows.append(normalise(row, precision))
            close = rows[-1].close
    return rows


@settings(max_examples=40)  # a day has 1,440 minutes in every example
@given(
    seed=st.integers(0, 1 << 30),
    numbers=st.sets(st.integers(0, 4), min_size=1, max_size=2),
    precision=st.builds(Precision, st.integers(0, 3), st.integers(0, 1)),
    quiet=st.sampled_from([0.0, 0.002, 0.3, 0.95, 1.0]),
    wished=st.sets(st.sampled_from(LONGER), min_size=1),
)
def test_every_interval_is_what_minute_by_minute_gives(
    seed: int, numbers: set[int], precision: Precision, quiet: float, wished: set[object]
) -> None:
    rows = days(seed, sorted(numbers), precision, quiet)
    intervals = [interval for interval in LONGER if interval in wished]
    made = roll_up_days(Columns.of(rows), precision, reversed(intervals))
    assert set(made) == set(intervals)
    for interval, longer in made.items():
        assert longer == roll_up(rows, interval.grid), interval


def test_a_day_with_a_hole_is_left_out_and_its_neighbours_are_not() -> None:
    rows = days(7, [0, 1, 2, 4], Precision(2, 3), 0.01)
    hour = INTERVALS["1h"]
    for lost in (1440, 2000, 2879):
        lacking = Columns.of(rows[:lost] + rows[lost + 1 :])
        made = roll_up_days(lacking, Precision(2, 3), [hour])[hour]
        assert made == [
            row for row in roll_up(rows, hour.grid) if row.open_ms // DAY_MS != rows[lost].open_ms // DAY_MS
        ]
    assert roll_up_days(Columns.of(rows[1:1440]), Precision(2, 3), [hour]) == {}
    assert roll_up_days(EMPTY, Precision(2, 3), [hour]) == {}


def test_a_minute_without_trades_adds_nothing_whatever_its_volumes_say() -> None:
    rows = days(11, [0], Precision(2, 3), 0.0)
    for number in (4, 700, 701, 702, 1439):
        rows[number] = rows[number]._replace(trades=0)
    made = roll_up_days(Columns.of(rows), Precision(2, 3), LONGER)
    for interval, longer in made.items():
        assert longer == roll_up(rows, interval.grid), interval


def test_which_intervals_are_made_day_by_day() -> None:
    assert [interval.code for interval in LONGER] == [
        "3m",
        "5m",
        "15m",
        "30m",
        "1h",
        "2h",
        "4h",
        "6h",
        "8h",
        "12h",
        "1d",
    ]
    assert not can_roll_up(M1)


@given(cuts=st.lists(st.integers(1, 3 * 1440), max_size=9), gap=st.integers(0, 3 * 1440))
@example(cuts=[1_500, 2_000], gap=0)  # the first part ends with the begin of a day
@settings(derandomize=True, database=None, max_examples=30)
def test_minutes_that_come_in_parts_make_what_they_make_at_once(cuts: list[int], gap: int) -> None:
    minutes = Columns.of(days(7, [0, 1, 2], Precision(2, 1), 0.002))
    minutes = Columns.joined([minutes[:gap], minutes[gap + 1 :]])
    intervals = [INTERVALS["5m"], D1]
    rolling = DayByDay(Precision(2, 1), intervals)
    made: list[Mapping[Interval, Columns]] = []
    edges = sorted({0, len(minutes), *(min(cut, len(minutes)) for cut in cuts)})
    for start, end in pairwise(edges):
        made.append(rolling.take(minutes[start:end], is_uniform=True))
    made.append(rolling.rest())
    parts = {interval: Columns.joined([each[interval] for each in made if each]) for interval in intervals}
    assert parts == roll_up_days(minutes, Precision(2, 1), intervals)
    assert not rolling.rest()


def test_a_day_with_a_number_of_another_form_is_left_to_others_and_the_next_is_not() -> None:
    minutes = Columns.of(days(7, [0, 1, 2], Precision(2, 1), 0.002))
    rolling = DayByDay(Precision(2, 1), [D1])
    for at in range(0, len(minutes), 480):
        made = rolling.take(minutes[at : at + 480], is_uniform=at != 1440 + 480)
        assert bool(made) is (at == 1440), at
    assert len(rolling.rest()[D1]) == 1
