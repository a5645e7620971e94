from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.interval import M1, MO1
from app.domain.kline import BadKline, Kline, Precision, check, is_zero, normalise

GOOD = Kline(60_000, "1.10", "1.20", "1.00", "1.15", "3.500", "4.02500", 7, "0", "0")
WHOLE = st.one_of(st.just("0"), st.from_regex(r"[1-9][0-9]{0,8}", fullmatch=True))
DECIMALS = st.builds(lambda whole, part: f"{whole}.{part}" if part else whole, WHOLE, st.text("0123456789", max_size=8))


@pytest.mark.parametrize(
    "text",
    ["9.12e-06", "1E5", "-1", "+1", "", ".5", "5.", "1,5", "NaN", "Infinity", "0x10", "1 ", "٣", "01", "1" * 41, "1\n"],
)
@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "taker_buy_quote_volume"])
def test_what_is_no_plain_decimal_is_refused(field: str, text: str) -> None:
    with pytest.raises(BadKline):
        check(Kline(**{**GOOD._asdict(), field: text}), M1.grid)


def test_open_times_off_the_grid_and_negative_counts_are_refused() -> None:
    assert check(GOOD, M1.grid) is GOOD
    for bad in (
        GOOD._replace(open_ms=60_001),
        GOOD._replace(trades=-1),
        GOOD._replace(open_ms=-60_000),
        GOOD._replace(open_ms=60_000 * 10**15),
    ):
        with pytest.raises(BadKline):
            check(bad, M1.grid)


def test_a_month_beyond_the_calendar_is_refused_like_any_other_garbage() -> None:
    for open_ms in (10**15, 10**18, 10**30):
        with pytest.raises(BadKline):
            check(GOOD._replace(open_ms=open_ms), MO1.grid)


@pytest.mark.parametrize(
    ("volume", "taker", "expected"),
    [
        ("0.0", "0.000", ("0", "0")),  # archive files before 2023-09-19
        ("12", "3", ("12.000", "3.000")),  # whole numbers without decimals until 2023-11-16
        ("12.5", "0", ("12.500", "0")),
        ("12.500", "3.100", ("12.500", "3.100")),
    ],
)
def test_the_three_eras_of_archive_numbers_become_rests_form(
    volume: str, taker: str, expected: tuple[str, str]
) -> None:
    kline = normalise(GOOD._replace(volume=volume, taker_buy_volume=taker, open="1", close="1.1"), Precision(2, 3))
    assert (kline.volume, kline.taker_buy_volume) == expected
    assert (kline.open, kline.close) == ("1.00", "1.10")


def test_lesson_7_a_tiny_price_keeps_its_digits() -> None:
    kline = normalise(GOOD._replace(open="0.00000912"), Precision(8, 0))
    assert kline.open == "0.00000912"
    assert normalise(kline, Precision(6, 0)).open == "0.00000912"


@given(DECIMALS, st.integers(0, 8), st.integers(0, 8))
def test_normalising_changes_the_form_and_never_the_value(text: str, price: int, quantity: int) -> None:
    precision = Precision(price, quantity)
    kline = GOOD._replace(open=text, volume=text, quote_volume=text)
    made = normalise(kline, precision)
    for before, after in ((kline.open, made.open), (kline.volume, made.volume), (text, made.quote_volume)):
        assert Decimal(before) == Decimal(after)
    assert normalise(made, precision) == made
    assert is_zero(text) == (Decimal(text) == 0)
    if not is_zero(text):
        assert len(made.volume.partition(".")[2]) >= quantity
