"""How old gathered rows are at most, and that the exchange's limit is never exceeded, for both forms of the limit."""

import pytest

from tests.filling.gathering_pace import cold, measured, quantile

SYMBOLS, GRANTED = 30, 50
"""A twentieth of 600 symbols, and of the 1,000 requests that are granted in five minutes."""
SERIES = 5 * SYMBOLS


def test_a_shared_limit_gives_each_series_its_newest_row_before_any_history_and_all_of_them_in_twenty_minutes() -> None:
    cold_s = sorted(passed for each in cold(SYMBOLS, is_shared=True, granted=GRANTED).values() for passed in each)
    assert len(cold_s) == SERIES
    assert [sum(passed <= minutes * 60 for passed in cold_s) for minutes in (5, 10, 15)] >= [37, 75, 113]
    assert cold_s[-1] <= 20.5 * 60


def test_limits_of_endpoints_give_each_series_its_newest_row_in_four_minutes() -> None:
    for cold_s in cold(SYMBOLS, is_shared=False, granted=GRANTED).values():
        assert len(cold_s) == SYMBOLS
        assert cold_s[-1] <= 4.5 * 60


@pytest.mark.parametrize(
    ("is_shared", "hours", "all_s_max", "filling_s_max", "filled_s_max"),
    [
        (True, 1.0, 32 * 60, (27 * 60, 47 * 60), (21 * 60, 39 * 60)),
        (False, 0.5, 5 * 60, (7 * 60, 12 * 60), (6 * 60, 10 * 60)),
    ],
    ids=["shared", "endpoint"],
)
def test_the_limit_is_kept_while_ages_stay_small_and_clients_get_through(
    is_shared: bool,
    hours: float,
    all_s_max: int,
    filling_s_max: tuple[int, int],
    filled_s_max: tuple[int, int],
) -> None:
    """The exchange here fails the test when it is asked more often than it grants in any five minutes."""
    pace = measured(SYMBOLS, is_shared=is_shared, granted=GRANTED, hours=hours)
    assert len(pace.most) == (1 if is_shared else 6)
    assert max(pace.most.values()) <= 0.95 * GRANTED
    assert pace.answered >= 200 * hours, "of a client's questions, of which three come in a minute"
    assert pace.refused <= 2
    assert pace.history_rows >= 15_000, "history goes on meanwhile"
    for name, cold_s in pace.cold_s.items():
        assert cold_s[-1] <= all_s_max
        for ages_s, (p50_s_max, p99_s_max) in (
            (pace.filling_s[name], filling_s_max),
            (pace.filled_s[name], filled_s_max),
        ):
            assert quantile(ages_s, 0.5) <= p50_s_max
            assert quantile(ages_s, 0.99) <= p99_s_max
