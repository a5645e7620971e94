from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.digits import PLACES_MAX, RULES, SHARE_PLACES, Rounding, Rule, agreed, long_share, short_share

MODES = {Rounding.HALF_UP: ROUND_HALF_UP, Rounding.HALF_EVEN: ROUND_HALF_EVEN, Rounding.DOWN: ROUND_DOWN}
UP8 = Rule(8, is_trimmed=False, rounding=Rounding.HALF_UP)
UP4, EVEN4, DOWN4 = (Rule(4, is_trimmed=False, rounding=rounding) for rounding in Rounding)
SOME_RULES = [
    Rule(places, is_trimmed, rounding)
    for places in (0, 1, 4, 8, 16)
    for is_trimmed in (False, True)[: 1 + bool(places)]
    for rounding in MODES
]


def by_decimal(rule: Rule, text: str) -> str:
    """What the rule says, in terms of Decimal."""
    number = Decimal(text).quantize(Decimal(1).scaleb(-rule.places), rounding=MODES[rule.rounding])
    printed = f"{number:f}"
    return printed.rstrip("0").rstrip(".") if rule.is_trimmed and "." in printed else printed


plain = st.from_regex(r"\A(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,20})?\Z")


@settings(derandomize=True)
@given(plain, st.sampled_from(SOME_RULES))
def test_a_rule_prints_what_decimal_arithmetic_gives(text: str, rule: Rule) -> None:
    assert rule.apply(text) == by_decimal(rule, text)


@settings(derandomize=True)
@given(st.lists(st.integers(0, 10**12).map(lambda number: f"{number // 10**6}.{number % 10**6:06}"), max_size=3))
def test_ties_nines_and_zeros_too(texts: list[str]) -> None:
    for rule in SOME_RULES:
        texts_of = [
            text[: len(text) - cut] + tail for text in texts for cut in range(3) for tail in ("5", "50", "99", "0")
        ]
        assert [rule.apply(text) for text in texts_of] == [by_decimal(rule, text) for text in texts_of]


@pytest.mark.parametrize(
    ("rule", "text", "printed"),
    [
        (UP8, "105550.9850000000000000", "105550.98500000"),  # recorded in both forms (binance-facts section 6.2)
        (UP4, "1.99995000", "2.0000"),
        (DOWN4, "1.99999999", "1.9999"),
        (EVEN4, "1.00005000", "1.0000"),
        (EVEN4, "1.00015000", "1.0002"),
        (EVEN4, "1.00005001", "1.0001"),
        (UP4, "5", "5.0000"),
        (UP4, "9.9", "9.9000"),
        (Rule(0, False, Rounding.HALF_UP), "9.5", "10"),
        (Rule(4, True, Rounding.HALF_UP), "100.00000000", "100"),
        (Rule(4, True, Rounding.HALF_UP), "0.00000000", "0"),
    ],
)
def test_examples(rule: Rule, text: str, printed: str) -> None:
    assert rule.apply(text) == printed


@settings(derandomize=True)
@given(st.lists(plain, max_size=5), st.lists(st.sampled_from(RULES), unique=True, max_size=40))
def test_what_is_printed_is_what_each_rule_left_prints(texts: list[str], rules: list[Rule]) -> None:
    printed = [{rule.apply(text) for rule in rules} for text in texts]
    expected = [each.pop() if len(each) == 1 else None for each in printed]
    assert agreed(rules, texts) == expected


@settings(derandomize=True)
@given(st.lists(plain, max_size=5), st.integers(1, PLACES_MAX))
def test_forms_that_cut_zeros_agree_about_texts_with_fewer_decimals(texts: list[str], places: int) -> None:
    rules = [rule for rule in RULES if rule.is_trimmed and rule.places >= places]
    printed = [{rule.apply(text) for rule in rules} for text in texts]
    assert agreed(rules, texts) == [each.pop() if len(each) == 1 else None for each in printed]


# --- shares ----------------------------------------------------------------------------------------------------------


def shares(ratio: str, rule: Rule) -> tuple[str, str]:
    long = rule.apply(long_share(ratio))
    return long, short_share(long)


@pytest.mark.parametrize(
    ("ratio", "long", "short"),
    [
        ("1.9078", "0.6561", "0.3439"),
        ("1.9197", "0.6575", "0.3425"),
        ("0.9493", "0.4870", "0.5130"),
        ("1.5704", "0.6110", "0.3890"),
        ("1.6044", "0.6160", "0.3840"),
        ("1.4426", "0.5906", "0.4094"),
    ],
)  # fmt: skip  seen live in July to October 2026
def test_shares_are_those_that_rest_prints(ratio: str, long: str, short: str) -> None:
    assert shares(ratio, UP4) == (long, short)


def test_shares_at_the_ends_and_at_ties() -> None:
    assert shares("0", UP4) == shares("0.00000000", UP4) == ("0.0000", "1.0000")
    assert shares("1", UP4) == ("0.5000", "0.5000")
    assert shares("99999999.00000000", UP4) == ("1.0000", "0.0000")
    one = [Rule(1, False, rounding) for rounding in Rounding]
    assert [shares("3", rule) for rule in one] == [("0.8", "0.2"), ("0.8", "0.2"), ("0.7", "0.3")], "0.75"
    assert [shares("3", rule._replace(places=0)) for rule in one] == [("1", "0"), ("1", "0"), ("0", "1")]
    two = [Rule(2, False, rounding) for rounding in Rounding]
    assert [shares("0.6", rule)[0] for rule in two] == ["0.38", "0.38", "0.37"], "0.375"
    assert [shares("1.66666666666666666667", rule)[0] for rule in two] == ["0.63", "0.63", "0.62"], "above 0.625"
    assert [shares("0.14285714", rule)[0] for rule in two] == ["0.12", "0.12", "0.12"], "below 0.125"
    assert shares("1", Rule(4, True, Rounding.DOWN)) == ("0.5", "0.5")
    assert shares("0", Rule(4, True, Rounding.DOWN)) == ("0", "1")
    with pytest.raises(ValueError, match="more than the whole"):
        short_share("1.0001")


@settings(derandomize=True)
@given(plain, st.sampled_from([rule for rule in RULES if rule.places]))
def test_a_rule_prints_the_exact_share(ratio: str, rule: Rule) -> None:
    exact = Fraction(ratio) / (1 + Fraction(ratio))
    units = exact * 10**rule.places
    floor = units.numerator // units.denominator
    rest = units - floor
    is_up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (rule.rounding is Rounding.HALF_UP or floor % 2 == 1))
    long, short = shares(ratio, rule)
    assert Fraction(long) * 10**rule.places == floor + (is_up and rule.rounding is not Rounding.DOWN)
    assert Fraction(long) + Fraction(short) == 1
    assert len(long) == len(short)
    assert rule.is_trimmed or len(long) == rule.places + 2
    assert 0 <= exact - Fraction(long_share(ratio)[: SHARE_PLACES + 2]) < Fraction(1, 10**SHARE_PLACES)
