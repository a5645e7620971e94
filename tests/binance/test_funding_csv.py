import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import funding_csv
from app.binance.funding_csv import HEADER, LINES_MAX, FundingFile
from app.binance.funding_rows import FundingRow
from app.domain.kline import BadKline

STAMP_MS = 59 * 60_000
FIRST, SECOND = "1785542400001,8,0.00004123", "1785571200000,4,-0.00003163"  # as recorded, with a ms beside the hour


def text(*lines: str, header: bool = True) -> bytes:
    return "".join(f"{line}\n" for line in ([HEADER] if header else []) + list(lines)).encode()


def test_events_keep_their_time_and_text_and_have_no_mark_price() -> None:
    expected = FundingFile(
        [
            FundingRow(1785542400001 - STAMP_MS, "0.00004123", None, None),
            FundingRow(1785571200000 - STAMP_MS, "-0.00003163", None, None),
        ],
        [8, 4], [], 0, 0,
    )  # fmt: skip
    for content in (
        text(FIRST, SECOND),
        text(FIRST, SECOND, header=False),
        text(FIRST, "", SECOND).replace(b"\n", b"\r\n"),
        text(FIRST, SECOND).removesuffix(b"\n"),
    ):
        assert funding_csv.parse(content) == expected
    for nothing in (b"", text()):
        assert funding_csv.parse(nothing) == FundingFile([], [], [], 0, 0)


def test_of_two_lines_of_one_time_the_later_counts_and_the_former_is_returned() -> None:
    other = FIRST.replace("4123", "9999")
    file = funding_csv.parse(text(SECOND, FIRST, FIRST, other))
    assert [row.funding_rate for row in file.rows] == ["0.00009999", "-0.00003163"]
    assert file.revisions == [FundingRow(1785542400001 - STAMP_MS, "0.00004123", None, None)]
    assert (file.duplicates, file.disordered) == (1, 1)
    hours = funding_csv.parse(text(FIRST, FIRST.replace(",8,", ",4,")))
    assert (hours.interval_hours, hours.revisions, hours.duplicates) == ([4], [], 0)


@pytest.mark.parametrize("seed", range(20))
def test_generated_months_are_read_whole_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    hours = sorted(chance.sample(range(744), chance.randrange(1, 744)))
    times = [1785542400000 + hour * 3_600_000 + chance.randrange(20) for hour in hours]
    rows = [
        FundingRow(time_ms - STAMP_MS, f"{chance.choice(['', '-'])}0.{time_ms % 10**8:08}", None, None)
        for time_ms in times
    ]
    lines = [f"{row.open_ms + STAMP_MS},{chance.choice([1, 4, 8])},{row.funding_rate}" for row in rows]
    repeated = chance.sample(lines, len(lines) // 3)
    shown = [*lines, *repeated]
    chance.shuffle(shown)
    file = funding_csv.parse(text(*shown))
    assert file.rows == rows, f"seed {seed}"
    assert (file.duplicates, file.revisions) == (len(repeated), []), f"seed {seed}"


@pytest.mark.parametrize(
    "line",
    ["1785542400001,8", FIRST + ",1", "x" + FIRST, HEADER, FIRST.replace("0.0", "0.0e"),
     FIRST.replace("0.00004123", ""),
     FIRST.replace("0.00004123", "4.1E-5"), FIRST.replace("0.00004123", "00.1"), FIRST.replace("0.00004123", "+0.1"),
     FIRST.replace("0.00004123", "0" * 41), FIRST.replace(",8,", ",0,"), FIRST.replace(",8,", ",,"), "-" + FIRST,
     FIRST.replace(",8,", ",8.0,"), FIRST.replace("1785542400001", "1785542400001000"), FIRST.replace("1785", "1_785"),
     FIRST.replace("1785542400001", "178554240000100"), FIRST.replace(",8", ", 8")],
)  # fmt: skip
def test_a_bad_line_is_an_error_with_its_number(line: str) -> None:
    with pytest.raises(BadKline, match="line 3"):
        funding_csv.parse(text(SECOND, line, FIRST))


def test_an_unknown_header_other_bytes_and_too_many_lines_are_refused() -> None:
    for content, reason in (
        (text("calc_time,rate", FIRST, header=False), "header"),
        (text(FIRST) + b"\xff", "ASCII"),
        (text(*[FIRST] * LINES_MAX), "lines"),
        (b"," * 1_000_000, "characters"),
    ):
        with pytest.raises(BadKline, match=reason):
            funding_csv.parse(content)


@settings(derandomize=True)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_else(garbage: bytes) -> None:
    for content in (garbage, text(FIRST) + garbage):
        try:
            funding_csv.parse(content)
        except BadKline:
            continue
