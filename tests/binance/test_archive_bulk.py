"""Parsing an archive file in bulk gives exactly what the line reader gives, or leaves the file to the line reader."""

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.binance import archive_bulk
from app.binance.archive_bulk import Part, Unusual, parse_parts
from app.binance.archive_csv import parse
from app.domain.columns import Columns
from app.domain.interval import D1, D3, INTERVALS, M1, MO1, Grid
from app.domain.kline import BadKline, Kline, Precision
from app.kinds.klines import KLINES
from infra.blocks.texts import encode_texts, texts_of

HEADER = (
    "open_time,open,high,low,close,volume,close_time,"
    "quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
START_MS = 1_675_209_600_000
NOW_FORM = "5.233,5.238,5.229,5.233,12.5,{close},65.4125,3,7.0,36.6310,0"


def line(number: int, numbers: str = NOW_FORM) -> str:
    open_ms = START_MS + number * 60_000
    return f"{open_ms}," + numbers.format(close=open_ms + 59_999) + "\n"


def parse_all(text: str, grid: Grid, precision: Precision) -> Part | None:
    """All parts of a file joined; None if the file is left to the line reader."""
    try:
        parts = list(parse_parts(text, grid, precision))
    except Unusual:
        return None
    return Part(Columns.joined([part.rows for part in parts]), all(part.is_uniform for part in parts))


@pytest.fixture(autouse=True, params=[1, 100, 60_000], ids="parts of {} characters".format)
def parts_chars(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse files one line at a time, a few lines at a time, and whole: the result must not depend on it."""
    monkeypatch.setattr(archive_bulk, "PART_CHARS", request.param)


def by_line(text: str, precision: Precision) -> list[Kline] | None:
    try:
        return list(parse(text, M1.grid, precision))
    except BadKline:
        return None


NUMBERS = st.from_regex(re.compile(r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,5})?", re.ASCII), fullmatch=True)
FILE = "".join(map(line, range(5)))


@pytest.mark.parametrize(
    ("numbers", "is_uniform"),
    [
        (NOW_FORM, True),
        ("5.233,5.233,5.233,5.233,0,{close},0,0,0,0,0", True),
        ("5.233,5.238,5.229,5.233,0.0,{close},0.0000,0,0.0,0.0000,0", True),  # before 2023-09-19
        ("5,6,4.5,5.2,12,{close},60.5,3,7,35,0", True),  # until 2023-11-16
        ("5.2331,5.238,5.229,5.233,12.5,{close},65.4125,3,7.0,36.6310,0", False),  # rows of another precision
        ("5.2330,5.238,5.229,5.233,12.50,{close},65.4125,3,7.0,36.63100,0", True),
    ],
)
def test_every_form_of_the_archive_comes_out_as_line_by_line(numbers: str, is_uniform: bool) -> None:
    precision = Precision(3, 1)
    text = line(0) + line(1, numbers) + line(2)
    for form in (text, HEADER + text, text.removesuffix("\n"), line(0) + line(4, numbers) + line(9)):
        parsed = parse_all(form, M1.grid, precision)
        assert parsed is not None
        assert parsed.rows == by_line(form, precision)
        assert parsed.is_uniform is is_uniform


@pytest.mark.parametrize("odd", ["5", "0.0", "00.5", "0.5", "12.50", "0"])
def test_a_line_is_not_taken_for_another_of_the_same_shape(odd: str) -> None:
    bare = NOW_FORM.replace("12.5", "0")
    text = "".join(map(line, range(3))) + line(3, bare) + line(4, NOW_FORM.replace("12.5", odd)) + line(5)
    parsed = parse_all(text, M1.grid, Precision(3, 1))
    assert (None if parsed is None else parsed.rows) == by_line(text, Precision(3, 1))


def test_what_is_printed_of_texts_is_what_is_printed_of_klines() -> None:
    text = FILE + line(7) + line(8, NOW_FORM.replace("12.5", "0")) + line(9)
    for part in parse_parts(text, M1.grid, Precision(3, 1)):
        for rows in (part.rows, part.rows[1:3], part.rows[:0]):
            printed = [KLINES.encode(row, row.open_ms + 59_999) for row in rows]
            assert encode_texts(KLINES, texts_of(KLINES, rows, 60_000), 0, len(rows)) == b",".join(printed)
            assert rows == Columns.of(list(rows))


@given(
    st.lists(st.lists(NUMBERS, min_size=8, max_size=8), max_size=9),
    st.builds(Precision, st.integers(0, 4), st.integers(0, 4)),
)
def test_any_numbers_and_precision_come_out_as_line_by_line(rows: list[list[str]], precision: Precision) -> None:
    text = "".join(
        line(number, "{},{},{},{},{},{{close}},{},4,{},{},0".format(*texts)) for number, texts in enumerate(rows)
    )
    parsed = parse_all(text, M1.grid, precision)
    if not rows:
        assert parsed is None
        return
    assert parsed is not None
    assert parsed.rows == by_line(text, precision)
    if parsed.is_uniform:
        for row in parsed.rows:
            for number, decimals in ((row.high, precision.price), (row.quote_volume, sum(precision))):
                assert number == "0" or len(number.partition(".")[2]) == decimals


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("5.238", "05.238", 1),
        lambda text: text.replace("5.238", "5.238e1", 1),
        lambda text: text.replace("5.238", "", 1),
        lambda text: text.replace("5.238", "5.", 1),
        lambda text: text.replace("5.238", "5" * 41, 1),
        lambda text: text.replace("5.238", "٥.238", 1),
        lambda text: text.replace(",3,", ",+3,", 1),
        lambda text: text.replace(",3,", ",1234567890123456,", 1),
        lambda text: text.replace(",3,", ",03,", 1),
        lambda text: text.replace(",3,", ",0.0,", 1),
        lambda text: text.replace("\n16752", "\n016752", 1),
        lambda text: text.replace(",16752", ",016752", 1),
        lambda text: text.replace("659999", "659998", 1),
        lambda text: text.replace("600000,5", "600001,5", 1),
        lambda text: text + text,
        lambda text: text + line(2),
        lambda text: text + "\n" + line(9),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(",0\n", ",0,0\n", 1),
        lambda text: text.replace(",0\n", "\n", 1),
        lambda text: " " + text,
        lambda text: "\n" + text,
        lambda text: HEADER + HEADER + text,
        lambda text: HEADER,
        lambda text: "",
    ],
)
def test_what_is_unusual_is_left_to_the_reader_of_lines(damage: Callable[[str], str]) -> None:
    assert parse_all(damage(FILE), M1.grid, Precision(3, 1)) is None


def test_any_single_character_changed_is_judged_as_line_by_line_does() -> None:
    rng = random.Random(20261121)
    for text in (FILE, HEADER + FILE):
        for _ in range(3_000):
            at = rng.randrange(len(text))
            broken = text[:at] + rng.choice("0123456789.,-+ \r\nxe") + text[at + rng.randrange(2) :]
            parsed = parse_all(broken, M1.grid, Precision(3, 1))
            assert parsed is None or parsed.rows == by_line(broken, Precision(3, 1)), broken


def test_only_fixed_grids_and_files_of_bounded_size_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for interval in (MO1, D3):
        assert parse_all(FILE, interval.grid, Precision(3, 1)) is None
    assert parse_all(FILE, INTERVALS["5m"].grid, Precision(3, 1)) is None
    day = "1675209600000,5.233,5.238,5.229,5.233,12.5,1675295999999,65.4125,3,7.0,36.6310,0\n"
    assert parse_all(day, D1.grid, Precision(3, 1)) is not None
    assert parse_all("1675252800000" + day[13:], D1.grid, Precision(3, 1)) is None
    monkeypatch.setattr(archive_bulk, "CHARS_MAX", len(FILE) - 1)
    assert parse_all(FILE, M1.grid, Precision(3, 1)) is None
