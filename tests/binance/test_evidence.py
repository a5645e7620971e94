"""Learning how REST prints a column: by votes, so that pairs of different values neither make nor break a rule."""

import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.binance.digits import PLACES_MAX, RULES, Rounding, Rule
from app.binance.evidence import Evidence, EvidenceState, Pair, Verdict, of_state, stated

UP4, EVEN4, DOWN4 = (Rule(4, is_trimmed=False, rounding=rounding) for rounding in Rounding)
SOME_RULES = [
    Rule(places, is_trimmed, rounding)
    for places in (0, 1, 4, 8, 16)
    for is_trimmed in (False, True)[: 1 + bool(places)]
    for rounding in Rounding
]
rules = st.sampled_from(RULES)


def archived(chance: random.Random, decimals: int = 8) -> str:
    """A number as the archive prints it: often with zeros at the end, a tie or nines."""
    whole = chance.choice([0, chance.randrange(10), chance.randrange(10**6), 99, 999_999])
    fraction = f"{chance.randrange(10**decimals):0{decimals}}"
    cut = chance.randrange(decimals + 1)
    fraction = chance.choice([fraction, fraction[:cut], fraction[:cut] + "5", fraction[:cut] + "9" * decimals])
    return f"{whole}.{fraction[:decimals].ljust(decimals, '0')}"


def told(rule: Rule, chance: random.Random, number: int) -> list[Pair]:
    """Pairs that tell the rule from every other one, if they are many."""
    decimals = PLACES_MAX + 1 if rule.places == PLACES_MAX else min(rule.places + 4, PLACES_MAX)
    texts = [archived(chance, decimals) for _ in range(number)]
    ties = [f"{chance.randrange(10**6)}.{str(chance.randrange(10**16)).zfill(16)[: rule.places]}5" for _ in texts]
    texts = [tie if chance.random() < 0.1 else text for tie, text in zip(ties, texts, strict=True)]
    return [(text, rule.apply(text)) for text in texts]


def spoiled(pairs: list[Pair], chance: random.Random, number: int) -> tuple[list[Pair], set[int]]:
    """Pairs of which some, at the places returned, are of different values."""
    places = set(chance.sample(range(len(pairs)), number))
    return [(archived(chance), text) if at in places else (mine, text) for at, (mine, text) in enumerate(pairs)], places


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("rule", SOME_RULES)
def test_every_rule_is_learned_from_pairs_that_tell(rule: Rule, seed: int) -> None:
    chance = random.Random(seed)
    pairs = told(rule, chance, 400)
    evidence, mismatched, is_afresh = Evidence().learned(pairs)
    assert (evidence.rule, evidence.verdict) == (rule, Verdict.DECIDED), f"seed {seed}: {evidence.left}"
    assert (evidence.pairs, evidence.mismatches, mismatched, is_afresh) == (400, 0, [], False)
    texts = [text for text, _ in told(rule, chance, 50)]
    assert evidence.apply_all(texts) == [rule.apply(text) for text in texts]


@settings(derandomize=True, max_examples=60)
@given(rules, st.integers(0, 2**32), st.integers(0, 19), st.integers(1, 4))
def test_up_to_a_twentieth_of_wrong_pairs_changes_no_rule(rule: Rule, seed: int, wrong: int, portions: int) -> None:
    chance = random.Random(seed)
    pairs, places = spoiled(told(rule, chance, 400), chance, wrong)
    evidence, size, mismatched = Evidence(), 400 // portions, set[int]()
    for start in range(0, size * portions, size):
        portion = pairs[start : start + size]
        evidence, found, is_afresh = evidence.learned(portion)
        mismatched |= {start + at for at in found}
        assert not is_afresh
    right = {at for at in places if rule.apply(pairs[at][0]) != pairs[at][1]}
    assert evidence.rule == rule
    assert mismatched <= right
    assert mismatched == right or portions > 1, "the first portions may leave rules that explain a wrong pair"
    assert (evidence.pairs, evidence.mismatches) == (400 // portions * portions, len(mismatched))


@settings(derandomize=True, max_examples=60)
@given(rules, rules, st.integers(0, 2**32))
def test_one_pair_proves_nothing_and_a_wrong_first_one_is_outvoted(rule: Rule, other: Rule, seed: int) -> None:
    chance = random.Random(seed)
    [first] = told(other, chance, 1)
    evidence = Evidence().learned([first]).evidence
    assert set(evidence.left) == set(RULES), "one pair rules nothing out"
    assert evidence.apply_all(["1.2345678901234567895"]) == [None]
    evidence = evidence.learned(told(rule, chance, 400)).evidence
    assert evidence.rule == rule


@settings(derandomize=True, max_examples=40)
@given(rules, rules, st.integers(0, 2**32))
def test_another_form_is_learned_afresh_from_one_day(rule: Rule, other: Rule, seed: int) -> None:
    chance = random.Random(seed)
    evidence = Evidence().learned(told(rule, chance, 400)).evidence
    pairs = told(other, chance, 400)
    differing = [at for at, (text, wanted) in enumerate(pairs) if rule.apply(text) != wanted]
    after, mismatched, is_afresh = evidence.learned(pairs)
    if len(differing) > 40:
        assert is_afresh
        assert (after.rule, after.pairs, after.mismatches, mismatched) == (other, 400, 0, [])
    else:
        assert not is_afresh


def test_what_no_rule_explains_is_contradictory_until_a_rule_does() -> None:
    chance = random.Random(1)
    evidence = Evidence().learned(told(UP4, chance, 200)).evidence
    nonsense = [(archived(chance), UP4.apply(archived(chance))) for _ in range(100)]
    evidence, mismatched, is_afresh = evidence.learned(nonsense)
    assert (evidence.verdict, evidence.rule, is_afresh) == (Verdict.CONTRADICTORY, None, True)
    assert len(mismatched) > 90
    assert evidence.apply_all(["1.50", "2"]) == [None, None]
    few = evidence.learned(told(UP4, chance, 19))
    assert (few.evidence.verdict, len(few.mismatched)) == (Verdict.CONTRADICTORY, 19), "too few to learn from"
    again = few.evidence.learned(told(UP4, chance, 400))
    assert (again.evidence.rule, again.is_afresh, again.evidence.mismatches) == (UP4, True, 0)


def test_few_wrong_pairs_do_not_make_it_forget_but_are_counted() -> None:
    chance = random.Random(1)
    evidence = Evidence().learned(told(DOWN4, chance, 200)).evidence
    evidence, mismatched, is_afresh = evidence.learned([("9.00000000", "7.0000")] * 19)
    assert (evidence.rule, mismatched, is_afresh) == (DOWN4, list(range(19)), False)
    assert (evidence.pairs, evidence.mismatches) == (219, 19)
    [tenth] = [evidence.learned([*told(DOWN4, chance, 18), *[("9.00000000", "7.0000")] * 2])]
    assert not tenth.is_afresh, "a tenth is not more than a tenth"
    assert Evidence().learned([*told(DOWN4, chance, 18), *[("9.00000000", "7.0000")] * 3]).is_afresh


def test_a_bad_batch_is_counted_and_changes_no_rule_that_stands_on_more() -> None:
    chance = random.Random(1)
    evidence = Evidence().learned(told(UP4, chance, 2_000)).evidence
    bad, places = spoiled(told(UP4, chance, 288), chance, 60)
    after, mismatched, is_afresh = evidence.learned(bad)
    assert (after.rule, set(mismatched), is_afresh) == (UP4, places, False)
    assert (after.pairs, after.mismatches) == (2_288, 60)
    for _ in range(20):
        after = after.learned(bad).evidence
    assert after.verdict is Verdict.CONTRADICTORY, "bad batches for weeks are no accident"
    most, _ = spoiled(told(UP4, chance, 288), chance, 200)
    assert evidence.learned(most).evidence.verdict is Verdict.CONTRADICTORY


def test_as_long_as_several_rules_are_left_only_what_they_agree_on_is_printed() -> None:
    first = Evidence().learned([("1.44260000", "1.4426")] * 2).evidence
    assert first.verdict is Verdict.UNDECIDED
    assert {rule.places for rule in first.left if not rule.is_trimmed} == {4}
    assert first.apply_all(["2.50000000", "2.12340000"]) == [None, "2.1234"], "cut zeros or not?"
    zeros = first.learned([("2.50000000", "2.5000")] * 2).evidence
    assert set(zeros.left) == {UP4, EVEN4, DOWN4}
    assert zeros.apply_all(["2.12346000", "2.12344999", "2.5"]) == [None, "2.1234", "2.5000"]
    rounded = zeros.learned([("2.12346000", "2.1235")] * 2).evidence
    assert set(rounded.left) == {UP4, EVEN4}
    assert rounded.apply_all(["2.12345000", "2.12345001", "2.12355000"]) == [None, "2.1235", "2.1236"]
    one_tie = rounded.learned([("2.12345000", "2.1234")]).evidence
    assert set(one_tie.left) == {UP4, EVEN4}, "one pair decides nothing"
    assert one_tie.learned([("2.32345000", "2.3234")]).evidence.rule == EVEN4
    assert one_tie.learned([("2.32345000", "2.3235")]).evidence.left == (UP4, EVEN4)


def test_too_many_mismatches_in_small_portions_make_a_rule_unproven() -> None:
    evidence = Evidence().learned([("1.44260000", "1.4426"), ("2.5", "2.5000"), ("3.10", "3.1000")]).evidence
    assert evidence.proven
    for _ in range(2):
        evidence = evidence.learned([("9.00000000", "7.0000")]).evidence
    assert evidence.left
    assert (evidence.proven, evidence.verdict) == ((), Verdict.CONTRADICTORY)


@pytest.mark.parametrize("seed", range(10))
def test_evidence_is_the_same_after_a_round_trip(seed: int) -> None:
    chance = random.Random(seed)
    pairs, _ = spoiled(told(chance.choice(SOME_RULES), chance, 60), chance, 3)
    evidence = Evidence()
    for start in range(0, len(pairs), 7):
        text = msgspec.json.encode(evidence.state())
        json.loads(text)
        assert of_state(msgspec.json.decode(text, type=EvidenceState)) == evidence, f"seed {seed}"
        evidence = evidence.learned(pairs[start : start + 7]).evidence
    assert len(msgspec.json.encode(evidence.state())) < 3_000
    assert len(msgspec.json.encode(Evidence().state())) < 60


@pytest.mark.parametrize(
    "state",
    [EvidenceState(1, 0, [(Rule(17, False, Rounding.DOWN), 0)]), EvidenceState(1, 2, None),
     EvidenceState(-1, -1, None), EvidenceState(1, 0, [(UP4, -1)]),
     EvidenceState(1, 0, [(Rule(0, True, Rounding.DOWN), 0)])],
)  # fmt: skip
def test_what_is_no_evidence_is_refused(state: EvidenceState) -> None:
    with pytest.raises(ValueError, match=r"unknown rules|impossible"):
        of_state(state)


def test_rules_in_words() -> None:
    assert stated(()) == ""
    assert stated([UP4]) == "4 decimals, half-up"
    trimmed = [Rule(places, True, Rounding.DOWN) for places in (3, 4, 5)]
    assert stated([UP4, EVEN4]) == "4 decimals, half-up or half-even"
    assert stated([DOWN4, *trimmed]) == "4 decimals, down; 3 to 5 decimals without zeros at the end, down"
