import json
import random
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance import digits
from app.binance.digits import PLACES_MAX, Evidence, Pair, Rounding, Rule, Verdict, learn, shares

MODES = {Rounding.HALF_UP: ROUND_HALF_UP, Rounding.HALF_EVEN: ROUND_HALF_EVEN, Rounding.DOWN: ROUND_DOWN}
UP8 = Rule(8, is_trimmed=False, rounding=Rounding.HALF_UP)
UP4, EVEN4, DOWN4 = (Rule(4, is_trimmed=False, rounding=rounding) for rounding in Rounding)
RULES = [
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


def archived(chance: random.Random, decimals: int = 8) -> str:
    """A number as the archive prints it: often with zeros at the end, a tie or nines."""
    whole = chance.choice([0, chance.randrange(10), chance.randrange(10**6), 99, 999_999])
    fraction = f"{chance.randrange(10**decimals):0{decimals}}"
    cut = chance.randrange(decimals + 1)
    fraction = chance.choice([fraction, fraction[:cut], fraction[:cut] + "5", fraction[:cut] + "9" * decimals])
    return f"{whole}.{fraction[:decimals].ljust(decimals, '0')}"


plain = st.from_regex(r"\A(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,20})?\Z")


@settings(deadline=None, derandomize=True)
@given(plain, st.sampled_from(RULES))
def test_a_rule_prints_what_decimal_arithmetic_gives(text: str, rule: Rule) -> None:
    assert rule.apply(text) == by_decimal(rule, text)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 10**12).map(lambda number: f"{number // 10**6}.{number % 10**6:06}"), max_size=3))
def test_ties_nines_and_zeros_too(texts: list[str]) -> None:
    for rule in RULES:
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
    assert not rule.refuted_by((text, printed))
    assert rule.refuted_by((text, printed + "1"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_learned_from_pairs_that_tell(rule: Rule, seed: int) -> None:
    chance = random.Random(seed)
    decimals = PLACES_MAX + 1 if rule.places == PLACES_MAX else min(rule.places + 4, PLACES_MAX)
    pairs = [(text, rule.apply(text)) for text in (archived(chance, decimals) for _ in range(400))]
    evidence = learn(pairs)
    assert (evidence.rule, evidence.verdict) == (rule, Verdict.DECIDED), f"seed {seed}: {evidence.rules}"
    assert evidence.pairs == len(pairs)
    assert not any(rule.refuted_by(pair) for pair in pairs)
    more = [archived(chance, decimals) for _ in range(50)]
    assert evidence.apply_all(more) == [by_decimal(rule, text) for text in more], f"seed {seed}"


def test_as_long_as_several_rules_are_left_only_what_they_agree_on_is_printed() -> None:
    assert (learn([]).rule, learn([]).verdict, learn([]).apply_all(["1.50"])) == (None, Verdict.UNDECIDED, [None])
    first = learn([("1.44260000", "1.4426")])
    assert first.verdict is Verdict.UNDECIDED
    assert {rule.places for rule in first.rules if not rule.is_trimmed} == {4}
    assert first.apply_all(["2.50000000", "2.12340000"]) == [None, "2.1234"], "cut zeros or not?"
    zeros = first.narrowed([("2.50000000", "2.5000")])
    assert set(zeros.rules) == {UP4, EVEN4, DOWN4}
    assert zeros.apply_all(["2.12346000", "2.12344999", "2.5"]) == [None, "2.1234", "2.5000"]
    rounded = zeros.narrowed([("2.12346000", "2.1235")])
    assert set(rounded.rules) == {UP4, EVEN4}
    assert rounded.apply_all(["2.12345000", "2.12345001", "2.12355000"]) == [None, "2.1235", "2.1236"]
    assert rounded.narrowed([("2.12345000", "2.1234")]).rule == EVEN4
    assert rounded.narrowed([("2.12345000", "2.1235")]).rule == UP4


@settings(deadline=None, derandomize=True)
@given(st.lists(plain, max_size=5), st.lists(st.sampled_from(digits._RULES), unique=True, max_size=40))
def test_what_is_printed_is_what_each_rule_left_prints(texts: list[str], rules: list[Rule]) -> None:
    printed = [{rule.apply(text) for rule in rules} for text in texts]
    expected = [each.pop() if len(each) == 1 else None for each in printed]
    assert Evidence(tuple(rules)).apply_all(texts) == expected


@pytest.mark.parametrize(
    "last", [("1.23450000", "1.2346"), ("1.23450000", "1.234"), ("1.23450000", "1.23450"), ("9.00000000", "9")]
)
def test_a_contradiction_is_found_named_and_final(last: Pair) -> None:
    chance = random.Random(1)
    pairs = [(text, UP4.apply(text)) for text in (archived(chance) for _ in range(200))]
    evidence = learn(pairs)
    assert evidence.rule == UP4
    assert UP4.refuted_by(last)
    refuted = evidence.narrowed([last, *pairs])
    assert (refuted.rule, refuted.verdict, refuted.refuting) == (None, Verdict.CONTRADICTORY, last)
    assert refuted.apply_all(["1.50", "2"]) == [None, None]
    assert refuted.pairs == 401
    assert refuted.narrowed(pairs).refuting == last


def test_an_empty_text_says_nothing() -> None:
    evidence = learn([("1.44260000", "1.4426")])
    assert evidence.narrowed([("", "1.5"), ("1.5", ""), ("", "")]) == evidence


@pytest.mark.parametrize("seed", range(10))
def test_evidence_is_the_same_in_portions_and_after_a_round_trip(seed: int) -> None:
    chance = random.Random(seed)
    rule = chance.choice(RULES)
    pairs = [(text, rule.apply(text)) for text in (archived(chance) for _ in range(60))]
    if chance.random() < 0.3:
        pairs.append(("1.00000000", "7"))
    evidence = Evidence()
    for start in range(0, len(pairs), 7):
        text = evidence.to_json()
        json.loads(text)
        assert digits.from_json(text) == evidence, f"seed {seed}"
        evidence = digits.from_json(text).narrowed(pairs[start : start + 7])
    assert evidence == learn(pairs), f"seed {seed}"
    assert len(evidence.to_json()) < 1_000
    assert len(Evidence().to_json()) < 50


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{}", b"[]", b'{"pairs":1,"rules":[[17,false,"down"]],"refuting":null}', b"\xff",
     b'{"pairs":1,"rules":[[4,false,"up"]],"refuting":null}', b'{"pairs":1,"rules":[[4,false]],"refuting":null}',
     b'{"pairs":1,"rules":[],"refuting":null,"more":1}', b'{"pairs":1,"rules":[[-1,false,"down"]],"refuting":null}',
     b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_evidence_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match=r"evidence|rules"):
        digits.from_json(garbage)


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
    assert shares(ratio, 4) == (long, short)


def test_shares_at_the_ends_and_at_ties() -> None:
    assert shares("0", 4) == shares("0.00000000", 4) == ("0.0000", "1.0000")
    assert shares("1", 4) == ("0.5000", "0.5000")
    assert shares("99999999.00000000", 4) == ("1.0000", "0.0000")
    assert shares("3", 1) == ("0.8", "0.2"), "0.75"
    assert shares("3", 1, Rounding.DOWN) == ("0.7", "0.3")
    assert shares("0.33333333", 0) == ("0", "1")
    assert shares("7", 0) == ("1", "0")
    assert (shares("0.6", 2, Rounding.HALF_UP), shares("0.6", 2, Rounding.HALF_EVEN)) == (("0.38", "0.62"),) * 2
    assert (shares("1.6", 2, Rounding.HALF_EVEN), shares("1.6", 2)) == (("0.62", "0.38"),) * 2
    assert (shares("7", 2, Rounding.HALF_UP), shares("7", 2, Rounding.HALF_EVEN)) == (("0.88", "0.12"),) * 2, "0.875"
    five_eighths = "1.66666666666666666667"
    assert shares(five_eighths, 3, Rounding.HALF_EVEN) == ("0.625", "0.375")
    assert (shares("0.142857142857", 2), shares("0.14285715", 2)) == (("0.12", "0.88"), ("0.13", "0.87"))


@settings(deadline=None, derandomize=True)
@given(plain, st.integers(0, 8), st.sampled_from(list(Rounding)))
def test_shares_are_exact(ratio: str, places: int, rounding: Rounding) -> None:
    long, short = shares(ratio, places, rounding)
    exact = Fraction(ratio) / (1 + Fraction(ratio)) * 10**places
    floor = exact.numerator // exact.denominator
    rest = exact - floor
    is_up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (rounding is Rounding.HALF_UP or floor % 2 == 1))
    expected = floor + (is_up and rounding is not Rounding.DOWN)
    assert Fraction(long) * 10**places == expected
    assert Fraction(long) + Fraction(short) == 1
    assert [len(text.partition(".")[2]) for text in (long, short)] == [places, places]
