"""Exact decimals on text equal decimal.Decimal's, and what is no plain decimal is refused."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import exact
from app.domain.instrument import QUANTITY_DECIMALS, Instrument, Market, Unit
from app.domain.unreadable import Unreadable

WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)


def number_text(units: int, decimals: int) -> str:
    digits = str(units).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


NUMBERS = st.builds(number_text, st.integers(0, 10**15), st.integers(0, 14))
EXPONENTS = st.sampled_from(["", "e0", "E-7", "e-7", "e+3", "E12", "e-20", "e30", "e99"])
JSON_NUMBERS = st.builds(lambda sign, text, end: sign + text + end, st.sampled_from(["", "-"]), NUMBERS, EXPONENTS)
ODD = [
    *(
        "",
        " ",
        "NaN",
        "Infinity",
        "-1",
        "+1",
        "1e5",
        "1E-7",
        ".5",
        "5.",
        "1.2.3",
        "1_000",
        "1,5",
        "٣",
        "0x1",
        "1 ",
        "007",
    ),
    *("00.5", "1\n", "<", "1><2", "1 2", "9" * 21, "0." + "1" * 21),
]


def shortest(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@given(NUMBERS, NUMBERS)
def test_a_product_is_exact_and_short(left: str, right: str) -> None:
    with localcontext(WIDE):
        assert exact.product(left, right) == shortest(Decimal(left) * Decimal(right))


@given(NUMBERS, NUMBERS.filter(lambda text: Decimal(text) != 0), st.integers(0, 20))
def test_a_quotient_is_rounded_half_to_even(dividend: str, divisor: str, decimals: int) -> None:
    with localcontext(WIDE):
        expected = (Decimal(dividend) / Decimal(divisor)).quantize(Decimal(1).scaleb(-decimals))
        assert exact.quotient(dividend, divisor, decimals) == shortest(expected)


@pytest.mark.parametrize(("dividend", "expected"), [("1", "0"), ("3", "2"), ("5", "2"), ("2", "1"), ("0", "0")])
def test_a_half_goes_to_the_even_neighbour(dividend: str, expected: str) -> None:
    assert exact.quotient(dividend, "2", 0) == expected


@given(JSON_NUMBERS)
def test_a_json_number_keeps_its_value_and_loses_its_exponent(number: str) -> None:
    try:
        text = exact.plain(number)
    except Unreadable:
        assert "e" in number.replace("E", "e")
        assert abs(int(number.replace("E", "e").partition("e")[2])) > 40
        return
    assert Decimal(text) == Decimal(number)
    if "e" not in number and "E" not in number:
        assert text == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1E-7", "0.0000001"),
        ("1e-7", "0.0000001"),
        ("-2.50e-3", "-0.00250"),
        ("1.5e1", "15"),
        ("1.50E+2", "150"),
        ("12.5e-1", "1.25"),
        ("0.00e2", "0"),
        ("170.0", "170.0"),
    ],
)
def test_exponents_are_written_out(number: str, text: str) -> None:
    assert exact.plain(number) == text


@pytest.mark.parametrize(
    "number", ["", "NaN", "null", "1e", "1e99", "1e-99", "01", "+1", "1.", "1e1e1", "9" * 61, "1e41"]
)
def test_what_is_no_json_number_of_a_sane_length_is_refused(number: str) -> None:
    with pytest.raises(Unreadable):
        exact.plain(number)


@pytest.mark.parametrize("text", ODD)
def test_texts_that_are_no_plain_decimals_are_refused_alone_and_among_others(text: str) -> None:
    for refused in (lambda: exact.unsigned(text), lambda: exact.all_unsigned(["1.5", text, "0"])):
        with pytest.raises(Unreadable):
            refused()
    with pytest.raises(Unreadable):
        exact.all_unsigned([text])
    if len(text) < 20:
        with pytest.raises(Unreadable):
            exact.product(text, "2")


@given(st.lists(st.one_of(NUMBERS, st.text("0123456789.- e", max_size=6)), min_size=1, max_size=6))
def test_many_texts_are_judged_as_one_by_one(texts: list[str]) -> None:
    def is_refused(check: object) -> bool:
        try:
            exact.all_unsigned(texts) if check is None else [exact.unsigned(text) for text in texts]
        except Unreadable:
            return True
        return False

    assert is_refused(None) == is_refused(exact.unsigned)


def test_what_is_remembered_is_bounded_and_right() -> None:
    checked, tenths = exact.Checked(), exact.Multiples("0.1")
    for number in range(2 * exact.REMEMBERED_MAX):
        text = str(number)
        assert checked[text] == checked[text] == text
        assert tenths[text] == tenths[text] == shortest(Decimal(number) / 10)
        assert len(checked) <= exact.REMEMBERED_MAX
        assert len(tenths) <= exact.REMEMBERED_MAX


@pytest.mark.parametrize("text", ODD)
def test_what_is_refused_is_not_remembered(text: str) -> None:
    checked = exact.Checked()
    for _ in range(2):
        with pytest.raises(Unreadable):
            checked[text]
    assert not checked


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(Unreadable, match="price"):
        exact.quotient("1", "0.00", 12)


@pytest.mark.parametrize("text", ["-1.5", "1.5", "-0"])
def test_a_minus_is_read_where_it_may_stand(text: str) -> None:
    assert exact.signed(text) == text


def test_two_signs_are_refused() -> None:
    with pytest.raises(Unreadable):
        exact.signed("--1")


@pytest.mark.parametrize(
    ("unit", "size", "is_inverse", "amount", "quantity"),
    [
        (Unit.COIN, "1", False, "0.120", "0.120"),
        (Unit.CONTRACT, "0.01", False, "12.5", "0.125"),
        (Unit.CONTRACT, "1", False, "12.50", "12.50"),
        (Unit.CONTRACT, "1000", False, "7", "7000"),
        (Unit.CONTRACT, "100", True, "3", "0.0048"),
        (Unit.USD, "1", True, "10", "0.00016"),
        (Unit.USD, "1", True, "10.0", "0.00016"),
    ],
)
def test_amounts_become_coins(unit: Unit, size: str, is_inverse: bool, amount: str, quantity: str) -> None:
    instrument = Instrument("x", Market.SWAP, "BTC-USD", "b", unit, size, is_inverse)
    assert instrument.quantity(amount, "62500") == quantity


def test_the_coins_of_an_inverse_contract_have_a_bounded_number_of_decimals() -> None:
    instrument = Instrument("x", Market.SWAP, "BTC-USD", "b", Unit.USD, "1", is_inverse=True)
    assert instrument.quantity("170.0", "77529.5") == "0.002192713741"
    assert QUANTITY_DECIMALS == 12
