"""Files of metrics of consecutive days as one sequence of rows."""

import random
from typing import Any

import pytest

from app.binance.metrics_csv import MetricsFile, parse
from app.binance.metrics_days import MetricsDays, joined
from app.binance.statistics_rows import ACCOUNTS, OPEN_INTEREST, PERIOD_MS, STATISTICS, OpenInterestRow, RatioRow
from app.domain.columns import EMPTY
from app.domain.interval import DAY_MS
from tests.binance.test_metrics_csv import SYMBOL, label, ms, text

SEP_1, SEP_2, SEP_3 = (ms(f"2020-09-0{day}") for day in (1, 2, 3))  # labelled by ends, and files begin with 00:00


def day(day_ms: int, *lines: tuple[int, str]) -> MetricsFile:
    """A file of lines, each with its open time in minutes after the day's begin, and its six values."""
    written = (f"{label(day_ms + minute * 60_000 + PERIOD_MS)},{SYMBOL},{values}" for minute, values in lines)
    return parse(text(*written), SYMBOL, day_ms)


def test_the_row_at_midnight_is_in_two_files_and_the_later_file_counts() -> None:
    midnight_ms = SEP_2 - PERIOD_MS
    found = joined(
        [day(SEP_1, (1430, "1,2,3,4,5,6"), (1435, "1,2,3,4,5,6")), day(SEP_2, (-5, "9,,3,4,7,"), (0, "1,1,1,1,1,1"))]
    )
    assert found.rows[OPEN_INTEREST] == [
        OpenInterestRow(midnight_ms - PERIOD_MS, "1", "2", None),
        OpenInterestRow(midnight_ms, "9", "2", None),
        OpenInterestRow(SEP_2, "1", "1", None),
    ]
    assert found.replaced == {
        OPEN_INTEREST: [OpenInterestRow(midnight_ms, "1", "2", None)],
        ACCOUNTS: [RatioRow(midnight_ms, "5", None, None)],
    }


def test_of_several_replaced_rows_the_last_is_left() -> None:
    found = joined([day(SEP_1, (1435, "1,,,,1,"), (1435, "2,,,,2,")), day(SEP_2, (-5, "3,,,,2,"), (-5, "4,,,,2,"))])
    assert found.replaced == {
        OPEN_INTEREST: [OpenInterestRow(SEP_2 - PERIOD_MS, "3", None, None)],
        ACCOUNTS: [RatioRow(SEP_2 - PERIOD_MS, "1", None, None)],
    }
    assert found.rows[ACCOUNTS] == [RatioRow(SEP_2 - PERIOD_MS, "2", None, None)]


def test_revisions_out_of_order_come_ascending() -> None:
    lines = ((10, "1,1,1,1,1,1"), (0, "1,1,1,1,1,1"), (10, "2,1,1,1,1,1"), (0, "2,1,1,1,1,1"))
    [replaced] = joined([day(SEP_1, *lines)]).replaced.values()
    assert [row.open_ms for row in replaced] == [SEP_1, SEP_1 + 2 * PERIOD_MS]


def test_rows_beside_an_empty_or_missing_day_stay() -> None:
    found = joined([day(SEP_1, (0, "1,1,1,1,1,1")), day(SEP_2), day(SEP_3, (-5, "1,1,1,1,1,1"))])
    assert [row.open_ms for row in found.rows[OPEN_INTEREST]] == [SEP_1, SEP_3 - PERIOD_MS]
    assert joined([]) == MetricsDays(dict.fromkeys(STATISTICS, EMPTY), {})


@pytest.mark.parametrize("seed", range(50))
def test_any_days_give_what_one_row_after_the_other_gives(seed: int) -> None:
    chance = random.Random(seed)

    def value() -> str:
        return chance.choice(("", "1", "2", "3.5"))

    files = []
    for number in range(4):
        minutes = sorted(chance.sample([-5, 0, 5, 1430, 1435, 1440], chance.randint(0, 6)))
        lines = [
            (minute, ",".join(value() for _ in range(6))) for minute in minutes for _ in range(chance.choice((1, 2)))
        ]
        files.append(day(SEP_1 + number * DAY_MS, *lines))
    found = joined(files)
    for endpoint in STATISTICS:
        known: dict[int, Any] = {}
        for row in (row for file in files for row in file.rows[endpoint]):
            former = known.get(row.open_ms, row)
            known[row.open_ms] = type(row)(
                *(before if new is None else new for new, before in zip(row, former, strict=True))
            )
        rows = found.rows[endpoint]
        assert rows == [known[open_ms] for open_ms in sorted(known)]
        assert all(row != known[row.open_ms] for row in found.replaced.get(endpoint, ()))
