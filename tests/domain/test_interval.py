import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.interval import D3, DAY_MS, INTERVALS, M1, MO1, Interval

TIMES = st.integers(0, 4_102_444_800_000)  # 1970 to 2100
ANCHORED = [Interval(code, interval.slug, interval.anchored(DAY_MS)) for code, interval in INTERVALS.items()]


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


def test_there_are_binances_fifteen_intervals_and_no_slug_differs_by_case_only() -> None:
    assert " ".join(INTERVALS) == "1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"
    assert len({interval.slug.lower() for interval in INTERVALS.values()}) == 15


@pytest.mark.parametrize(
    ("code", "time", "opens", "closes"),
    [
        ("1m", (2026, 11, 21, 3, 24, 59), (2026, 11, 21, 3, 24), (2026, 11, 21, 3, 25)),
        ("8h", (2026, 11, 21, 15, 59), (2026, 11, 21, 8), (2026, 11, 21, 16)),
        ("12h", (2026, 11, 21, 15, 59), (2026, 11, 21, 12), (2026, 11, 22)),
        ("1w", (2026, 11, 22, 23, 59), (2026, 11, 16), (2026, 11, 23)),
        ("1w", (2026, 11, 23), (2026, 11, 23), (2026, 11, 30)),
        ("1M", (2024, 2, 29, 23, 59), (2024, 2, 1), (2024, 3, 1)),
        ("1M", (2026, 12, 31), (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_an_open_time_is_where_binance_aligns_it(
    code: str, time: tuple[int, ...], opens: tuple[int, ...], closes: tuple[int, ...]
) -> None:
    grid = INTERVALS[code].grid
    assert grid.floor(ms(*time)) == ms(*opens)
    assert grid.shift(ms(*opens), 1) == ms(*closes)


def test_the_3d_grid_is_anchored_by_one_of_the_symbols_own_klines() -> None:
    assert D3.needs_anchor
    anchored = D3.anchored(ms(2024, 1, 1))
    assert anchored.floor(ms(2024, 1, 3, 23)) == ms(2024, 1, 1)
    assert anchored.shift(ms(2024, 1, 1), -1) == ms(2023, 12, 29)
    other = D3.anchored(ms(2024, 1, 2))
    assert other.floor(ms(2024, 1, 3, 23)) == ms(2024, 1, 2)


@given(st.sampled_from(ANCHORED), TIMES)
def test_floor_and_ceil_are_the_neighbours_on_the_grid(interval: Interval, time_ms: int) -> None:
    grid = interval.grid
    floor, ceil = grid.floor(time_ms), grid.ceil(time_ms)
    assert floor <= time_ms <= ceil
    assert ceil in (floor, grid.shift(floor, 1))
    assert grid.floor(floor) == floor == grid.ceil(floor)
    assert grid.floor(grid.shift(floor, 1) - 1) == floor


@given(st.sampled_from(ANCHORED), TIMES, st.integers(-40, 40))
def test_shift_goes_there_and_back(interval: Interval, time_ms: int, steps: int) -> None:
    grid = interval.grid
    open_ms = grid.floor(time_ms + 100 * 366 * DAY_MS // 12)
    assert grid.shift(grid.shift(open_ms, steps), -steps) == open_ms


@given(st.sampled_from(ANCHORED), TIMES, st.integers(0, 50), st.integers(-DAY_MS, DAY_MS))
def test_opens_and_count_agree_with_brute_force(interval: Interval, time_ms: int, steps: int, slip_ms: int) -> None:
    grid = interval.grid
    end_ms = grid.shift(grid.floor(time_ms), steps) + slip_ms
    brute = []
    open_ms = grid.ceil(time_ms)
    while open_ms < end_ms:
        brute.append(open_ms)
        open_ms = grid.shift(open_ms, 1)
    assert list(grid.opens(time_ms, end_ms)) == brute
    assert grid.count(time_ms, end_ms) == len(brute)


@given(TIMES)
def test_months_agree_with_the_calendar(time_ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    assert MO1.grid.floor(time_ms) == ms(moment.year, moment.month, 1)


def test_1m_is_not_1month() -> None:
    assert M1 != MO1
    assert INTERVALS["1m"] is M1
    assert INTERVALS["1M"] is MO1


def test_an_interval_is_itself_after_a_journey_to_another_process() -> None:
    for interval in INTERVALS.values():
        assert pickle.loads(pickle.dumps(interval)) is interval
        assert hash(interval) == hash(interval.code), "the same in every run with the same PYTHONHASHSEED"
