import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import metrics_csv
from app.binance.metrics_csv import LINES_MAX, MetricsFile, Report
from app.binance.metrics_lines import ERAS, HEADER, era_of
from app.binance.statistics_rows import (
    ACCOUNTS,
    OPEN_INTEREST,
    STATISTICS,
    TAKERS,
    TOP_ACCOUNTS,
    TOP_POSITIONS,
    OpenInterestRow,
    RatioRow,
    TakerRow,
)
from app.domain.kline import BadKline

SYMBOL = "BTCUSDT"
STEP_MS = 300_000
VALUES = "105550.9850000000000000,6858675634.7062540000000000,1.28623339,1.47112400,1.19972635,1.55827200"
# recorded (binance-facts section 6.2): BTCUSDT at 2026-07-15 00:00


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def label(time_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).strftime("%Y-%m-%d %H:%M:%S")


def text(*lines: str, header: bool = True) -> bytes:
    return "".join(f"{line}\n" for line in ([HEADER] if header else []) + list(lines)).encode()


def parse(*lines: str, day: str, symbol: str = SYMBOL) -> MetricsFile:
    return metrics_csv.parse(text(*lines), symbol, ms(day))


def opens(file: MetricsFile, endpoint: str = OPEN_INTEREST) -> list[str]:
    return [label(row.open_ms) for row in file.rows[endpoint]]


def test_one_line_gives_a_row_for_each_endpoint_with_the_archives_own_text() -> None:
    file = parse(f"2026-07-15 00:00:00,{SYMBOL},{VALUES}", day="2026-07-15")
    interest, worth, top_accounts, top_positions, accounts, takers = VALUES.split(",")
    at = ms("2026-07-15")
    assert file.rows == {
        OPEN_INTEREST: [OpenInterestRow(at, interest, worth, None)],
        TOP_ACCOUNTS: [RatioRow(at, top_accounts, None, None)],
        TOP_POSITIONS: [RatioRow(at, top_positions, None, None)],
        ACCOUNTS: [RatioRow(at, accounts, None, None)],
        TAKERS: [TakerRow(at, takers, None, None)],
    }
    assert all(type(row) is STATISTICS[endpoint].row for endpoint, rows in file.rows.items() for row in rows)
    assert set(file.rows) == set(STATISTICS)
    assert file.revisions == {}
    assert file.report == Report(1, 287, 0, 0, 0, 0, 0, 0, 0)


def test_labels_are_ends_until_2026_06_25_and_starts_since() -> None:
    line = f"{{}},{SYMBOL},{VALUES}"
    last = parse(line.format("2026-06-24 00:05:00"), line.format("2026-06-25 00:00:00"), day="2026-06-24")
    assert opens(last) == ["2026-06-24 00:00:00", "2026-06-24 23:55:00"]
    first = parse(line.format("2026-06-25 00:00:00"), line.format("2026-06-25 23:55:00"), day="2026-06-25")
    assert opens(first) == ["2026-06-25 00:00:00", "2026-06-25 23:55:00"]
    assert last.report.outside == first.report.outside == 0
    assert era_of(ms("2026-06-24")) == ERAS[-2]
    assert era_of(ms("2026-06-25")) == ERAS[-1]
    assert list(ERAS) == sorted(ERAS)


def test_a_border_file_with_midnight_twice_keeps_the_later_line_and_returns_the_other() -> None:
    end, start = f"2026-06-25 00:00:00,{SYMBOL},{VALUES}", f"2026-06-25 00:00:00,{SYMBOL},5,6,1,1,1,1"
    file = parse(end, start, day="2026-06-25")
    at = ms("2026-06-25")
    assert file.rows[OPEN_INTEREST] == [OpenInterestRow(at, "5", "6", None)]
    assert file.revisions[OPEN_INTEREST] == [OpenInterestRow(at, VALUES.split(",")[0], VALUES.split(",")[1], None)]
    assert set(file.revisions) == set(file.rows)
    assert (file.report.lines, file.report.conflicts, file.report.duplicates) == (2, 1, 0)


def test_files_of_2020_have_each_line_twice_and_begin_with_the_end_of_the_day_before() -> None:
    lines = [f"2020-09-01 00:{minute:02}:00,{SYMBOL},{VALUES}" for minute in (0, 0, 5, 5, 10, 10)]
    file = parse(*lines, day="2020-09-01")
    assert opens(file) == ["2020-08-31 23:55:00", "2020-09-01 00:00:00", "2020-09-01 00:05:00"]
    assert file.report == Report(6, 286, 3, 0, 0, 1, 0, 0, 0)
    assert file.revisions == {}


def test_lines_out_of_order_are_sorted() -> None:
    lines = [f"2024-08-08 00:{minute}:00,{SYMBOL},{VALUES}" for minute in (35, 20, 30, 25)]
    file = parse(*lines, day="2024-08-08")
    assert opens(file, TAKERS) == [f"2024-08-08 00:{minute}:00" for minute in (15, 20, 25, 30)]
    assert file.report.disordered == 2


def test_of_two_lines_of_one_time_the_later_counts_but_a_blank_says_nothing() -> None:
    file = parse(
        f"2024-01-01 00:05:00,{SYMBOL},1,2,3,4,5,6",
        f"2024-01-01 00:05:00,{SYMBOL},1,7,,4,8,",
        f"2024-01-01 00:05:00,{SYMBOL},1,7,3,4,8,6",
        day="2024-01-01",
    )
    at = ms("2024-01-01")
    assert file.rows[OPEN_INTEREST] == [OpenInterestRow(at, "1", "7", None)]
    assert file.rows[TOP_ACCOUNTS] == [RatioRow(at, "3", None, None)]
    assert file.rows[TAKERS] == [TakerRow(at, "6", None, None)]
    assert file.revisions == {
        OPEN_INTEREST: [OpenInterestRow(at, "1", "2", None)],
        ACCOUNTS: [RatioRow(at, "5", None, None)],
    }
    assert (file.report.conflicts, file.report.duplicates, file.report.blank_values) == (1, 1, 2)


def test_blank_values_are_unknown() -> None:
    file = parse(
        f"2024-01-01 00:05:00,{SYMBOL},,,3,,5,6",
        f"2024-01-01 00:10:00,{SYMBOL},1,,,4,,",
        f"2024-01-01 00:15:00,{SYMBOL},,2,3,4,5,6",
        f"2024-01-01 00:20:00,{SYMBOL},,,,,,",
        day="2024-01-01",
    )
    at = ms("2024-01-01")
    assert file.rows[OPEN_INTEREST] == [
        OpenInterestRow(at + STEP_MS, "1", None, None),
        OpenInterestRow(at + 2 * STEP_MS, None, "2", None),
    ]
    assert opens(file, TOP_ACCOUNTS) == ["2024-01-01 00:00:00", "2024-01-01 00:10:00"]
    assert opens(file, TOP_POSITIONS) == ["2024-01-01 00:05:00", "2024-01-01 00:10:00"]
    assert opens(file, TAKERS) == opens(file, ACCOUNTS) == ["2024-01-01 00:00:00", "2024-01-01 00:10:00"]
    assert file.report.blank_values == 3 + 4 + 1 + 6


@pytest.mark.parametrize(
    ("day", "is_unknown"),
    [("2022-03-06", False), ("2022-03-07", True), ("2022-03-08", True), ("2022-03-09", False), ("2026-07-01", False)],
)
def test_zeros_are_unknown_on_two_days_of_2022(day: str, is_unknown: bool) -> None:
    file = parse(f"{day} 00:05:00,{SYMBOL},0.0000000000000000,2,0.00000000,0,1,", day=day)
    at = file.rows[ACCOUNTS][0].open_ms
    assert file.rows[OPEN_INTEREST] == [OpenInterestRow(at, None if is_unknown else "0.0000000000000000", "2", None)]
    assert (file.rows[TOP_ACCOUNTS] == []) == (file.rows[TOP_POSITIONS] == []) == is_unknown
    assert (file.report.zero_values, file.report.blank_values) == (3 if is_unknown else 0, 1)


def test_a_line_of_zeros_alone_is_unknown_on_any_day() -> None:
    zeros = "0.0000000000000000,0.0000000000000000,0.00000000,0.00000000,0,0.0"
    day = "2024-01-01"
    file = parse(f"{day} 00:05:00,{SYMBOL},{zeros}", f"{day} 00:10:00,{SYMBOL},{zeros[:-3]}1", day=day)
    assert [len(rows) for rows in file.rows.values()] == [1] * 5
    assert file.report.zero_values == 6
    assert opens(file) == [f"{day} 00:05:00"]


def test_a_date_alone_is_midnight() -> None:
    file = parse(f"2024-01-01 23:55:00,{SYMBOL},{VALUES}", f"2024-01-02,{SYMBOL},{VALUES}", day="2024-01-01")
    assert opens(file) == ["2024-01-01 23:50:00", "2024-01-01 23:55:00"]
    assert file.report.bare_dates == 1


def test_a_file_without_header_with_blank_lines_other_line_ends_or_no_last_one_gives_the_same() -> None:
    lines = [f"2026-07-15 00:{minute:02}:00,{SYMBOL},{VALUES}" for minute in range(0, 60, 5)]
    expected = parse(*lines, day="2026-07-15")
    assert expected.report.lines == 12
    for content in (
        text(*lines, header=False),
        text(*lines).replace(b"\n", b"\r\n"),
        text(*lines).removesuffix(b"\n"),
        text(*lines) + b"\n\r\n",
        text(*lines).replace(b"\n2026-07-15 00:30", b"\n\n2026-07-15 00:30"),
    ):
        assert metrics_csv.parse(content, SYMBOL, ms("2026-07-15")) == expected
    for nothing in (b"", text()):
        file = metrics_csv.parse(nothing, SYMBOL, ms("2026-07-15"))
        assert file.rows == {endpoint: [] for endpoint in STATISTICS}
        assert (file.revisions, file.report) == ({}, Report(0, 288, 0, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("symbol", ["币安人生USDT", "1000PEPEUSDT", "0GUSDT", "01USDT", "BTCUSDT_261225"])
def test_symbols_may_have_any_letters(symbol: str) -> None:
    file = parse(f"2026-07-15 00:00:00,{symbol},{VALUES}", day="2026-07-15", symbol=symbol)
    assert len(file.rows[TAKERS]) == 1


GOOD = f"2026-07-15 00:05:00,{SYMBOL},{VALUES}"


@pytest.mark.parametrize(
    "line",
    [GOOD.replace(SYMBOL, "ETHUSDT"), GOOD.replace(SYMBOL, ""), GOOD + ",1", GOOD.rsplit(",", 1)[0], "x", HEADER,
     "<html>", GOOD.replace("1.28623339", "1e8"), GOOD.replace("1.28623339", "-1"), GOOD.replace("1.28623339", "01.5"),
     GOOD.replace("1.28623339", "NaN"), GOOD.replace("1.28623339", '"1.5"'), GOOD.replace("1.28623339", "٣"),
     GOOD.replace("1.28623339", "1 2"), GOOD.replace("1.28623339", "9" * 41), GOOD.replace("1.28623339", ".5"),
     GOOD.replace("00:05:00", "00:06:00"), GOOD.replace("00:05:00", "00:05:01"), GOOD.replace("00:05:00", "24:00:00"),
     GOOD.replace("00:05:00", "00:05"), GOOD.replace("2026-07-15", "2026-02-30"), GOOD.replace("-", "/"),
     GOOD.replace(" 00:05", "T00:05"), GOOD.replace("2026-07-15 00:05:00", "1784073900000"),
     GOOD.replace("2026-07-15", "2026-07-16"), GOOD.replace("2026-07-15", "2025-07-15"), GOOD.replace("2026", "0001"),
     "," * 600, GOOD + "\v"],
)  # fmt: skip
def test_a_bad_line_is_an_error_with_its_number(line: str) -> None:
    first = f"2026-07-15 00:00:00,{SYMBOL},{VALUES}"
    with pytest.raises(BadKline, match=r"line 3|a line has 60."):
        parse(first, line, day="2026-07-15")
    with pytest.raises(BadKline, match=r"line 3|a line has 60."):
        metrics_csv.parse(text(first, line, GOOD).replace(b"\n", b"\r\n"), SYMBOL, ms("2026-07-15"))


def test_an_unknown_header_other_bytes_and_too_many_lines_are_refused() -> None:
    day_ms = ms("2026-07-15")
    for content, reason in (
        (text("create_time,symbol", GOOD, header=False), "header"),
        (text(HEADER.replace("count_toptrader", "x", 1), GOOD, header=False), "header"),
        (text(GOOD) + b"\xff", "UTF-8"),
        (text(*[GOOD] * LINES_MAX), "lines"),
        (b"," * 8_000_000, "characters"),
        (b"PK\x03\x04", "header"),
    ):
        with pytest.raises(BadKline, match=reason):
            metrics_csv.parse(content, SYMBOL, day_ms)


@settings(derandomize=True)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_else(garbage: bytes) -> None:
    for content in (garbage, text(GOOD) + garbage):
        try:
            file = metrics_csv.parse(content, SYMBOL, ms("2026-07-15"))
        except BadKline:
            continue
        assert file.report.lines == len(file.rows[TAKERS]) + file.report.duplicates


class Generated:
    """A file with every kind of quirk, and what a plain reading of the facts makes of it."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        day = chance.choice(["2020-09-01", "2022-03-07", "2022-03-08", "2024-02-16", "2026-06-24", "2026-06-25"])
        self.symbol = chance.choice(["BTCUSDT", "币安人生USDT", "1000PEPEUSDT"])
        self.day_ms = ms(day)
        self.has_zeros = day.startswith("2022")
        after_ms = 0 if day == "2026-06-25" else STEP_MS
        steps = sorted(chance.sample(range(288), chance.choice([0, 1, 163, 288])))
        quirks = chance.random() * 0.2
        self.lines: list[tuple[int, str, list[str]]] = []
        for open_ms in [self.day_ms + step * STEP_MS for step in steps]:
            values = [self.value(chance, quirks, digits) for digits in (16, 16, 8, 8, 8, 8)]
            shown = label(open_ms + after_ms)
            if shown.endswith("00:00:00") and chance.random() < 0.5:
                shown = shown[:10]
            self.lines.append((open_ms, shown, values))
            while chance.random() < quirks:
                other = [self.value(chance, quirks, 8) if chance.random() < 0.5 else each for each in values]
                again = (open_ms, shown, values if chance.random() < 0.5 else other)
                place = len(self.lines) if chance.random() < 0.5 else chance.randrange(len(self.lines) + 1)
                self.lines.insert(place, again)
        if chance.random() < 0.3:
            chance.shuffle(self.lines)
        rows = [f"{shown},{self.symbol},{','.join(values)}" for _, shown, values in self.lines]
        self.content = text(*rows, header=chance.random() < 0.5)

    @staticmethod
    def value(chance: random.Random, quirks: float, digits: int) -> str:
        if chance.random() < quirks:
            return chance.choice(["", "0", "0.00000000", "0.0000000000000000"])
        return f"{chance.randrange(1, 10 ** chance.randrange(1, 12))}.{chance.randrange(10**digits):0{digits}}"

    def expected(self) -> tuple[dict[str, dict[int, tuple[str | None, ...]]], int, int]:
        """By endpoint and open time the values; how many lines were duplicates and conflicts."""
        left: dict[int, list[str]] = {}
        duplicates = conflicts = 0
        for open_ms, _, values in self.lines:
            is_zero = [bool(each) and not each.strip("0.") for each in values]
            are_unknown = self.has_zeros or all(is_zero)
            known = ["" if zero and are_unknown else each for each, zero in zip(values, is_zero, strict=True)]
            former = left.get(open_ms)
            if former is None:
                left[open_ms] = known
                continue
            duplicates += former == known
            conflicts += former != known
            left[open_ms] = [later or earlier for later, earlier in zip(known, former, strict=True)]
        found: dict[str, dict[int, tuple[str | None, ...]]] = {}
        for endpoint, places in zip(
            (OPEN_INTEREST, TOP_ACCOUNTS, TOP_POSITIONS, ACCOUNTS, TAKERS),
            ((0, 1), (2,), (3,), (4,), (5,)),
            strict=True,
        ):
            known_of = {at: [values[place] for place in places] for at, values in sorted(left.items())}
            found[endpoint] = {
                at: tuple(each or None for each in known) for at, known in known_of.items() if any(known)
            }
        return found, duplicates, conflicts


@pytest.mark.parametrize("seed", range(300))
def test_generated_files_are_read_as_the_facts_say(seed: int) -> None:
    made = Generated(seed)
    file = metrics_csv.parse(made.content, made.symbol, made.day_ms)
    expected, duplicates, conflicts = made.expected()
    for endpoint, rows in file.rows.items():
        known = 2 if endpoint == OPEN_INTEREST else 1
        found = {row.open_ms: tuple(row)[1 : 1 + known] for row in rows}
        assert found == expected[endpoint], f"seed {seed}, {endpoint}"
        assert [row.open_ms for row in rows] == sorted(found), f"seed {seed}, {endpoint}"
        assert {tuple(row)[1 + known :] for row in rows} <= {(None,) * (3 - known)}
    report = file.report
    assert (report.lines, report.duplicates, report.conflicts) == (len(made.lines), duplicates, conflicts), (
        f"seed {seed}"
    )
    assert report.missing == 288 - len({open_ms for open_ms, _, _ in made.lines})
    for endpoint, changed in file.revisions.items():
        left = {row.open_ms: row for row in file.rows[endpoint]}
        assert all(row != left[row.open_ms] for row in changed), (
            f"seed {seed}: what was replaced differs from what is left"
        )
    by_line = metrics_csv.parse(made.content.replace(b"\n", b"\r\n"), made.symbol, made.day_ms)
    assert by_line == file, f"seed {seed}: read line by line, the same"
