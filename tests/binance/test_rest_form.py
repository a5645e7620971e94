"""Archive rows in REST's form: proven digits and shares, the archive's own text where nothing is proven."""

import random
from typing import Any

import pytest

from app.binance.digits import RULES, Rounding, Rule, long_share, short_share
from app.binance.evidence import Evidence
from app.binance.rest_form import (
    COLUMNS,
    LAST_MAX,
    Mismatch,
    SymbolDigits,
    compared,
    digits_of_json,
    rest_form,
)
from app.binance.statistics_rows import ACCOUNTS, OPEN_INTEREST, TAKERS, OpenInterestRow, RatioRow, TakerRow

UP4, EVEN4, DOWN4 = (Rule(4, is_trimmed=False, rounding=rounding) for rounding in Rounding)
UP8 = UP4._replace(places=8)


def ratios(number: int, seed: int = 1) -> list[RatioRow]:
    chance = random.Random(seed)
    return [RatioRow(at, f"{chance.randrange(4)}.{chance.randrange(10**8):08}", None, None) for at in range(number)]


def in_rest(row: RatioRow, rule: Rule) -> RatioRow:
    assert row.long_short_ratio is not None
    long = rule.apply(long_share(row.long_short_ratio))
    return RatioRow(row.open_ms, rule.apply(row.long_short_ratio), long, short_share(long))


def learned(endpoint: str, archived: list[Any], rest: list[Any], digits: SymbolDigits | None = None) -> SymbolDigits:
    digits = digits or SymbolDigits()
    for column, found in compared(endpoint, archived, rest):
        before = digits.evidence.get(column)
        after, mismatched, _ = (before or Evidence()).learned(found.pairs)
        listed = [Mismatch(found.opens_ms[at], *column, *found.pairs[at]) for at in mismatched]
        digits = digits.with_column(column, after, listed)
    return digits


@pytest.mark.parametrize("rule", [UP4, DOWN4, UP4._replace(is_trimmed=True), UP4._replace(places=2), UP8])
def test_ratios_and_their_shares_are_printed_as_in_the_overlap(rule: Rule) -> None:
    ties = [RatioRow(600 + at, f"1.{at}2345000", None, None) for at in (1, 2)]  # as rare as one in ten thousand
    overlap, older = [*ratios(600), *ties], ratios(500, seed=2)
    digits = learned(ACCOUNTS, overlap, [in_rest(row, rule) for row in overlap])
    assert digits.mismatches == 0
    if rule is not UP8:
        assert rest_form(ACCOUNTS, older, digits) == [in_rest(row, rule) for row in older]
        return
    shares = [(row[2], row[3]) for row in rest_form(ACCOUNTS, older, digits)]
    assert shares == [in_rest(row, rule)[2:] for row in older], "shares have a rule of their own"


def test_without_an_overlap_the_archive_s_own_digits_are_printed_and_nothing_is_derived() -> None:
    rows = ratios(3)
    assert rest_form(ACCOUNTS, rows, SymbolDigits()) == rows
    takers = [TakerRow(row.open_ms, row.long_short_ratio, None, None) for row in rows]
    assert rest_form(TAKERS, takers, SymbolDigits()) == takers
    interests = [OpenInterestRow(1, "2.0000000000000000", None, None), OpenInterestRow(2, None, "3.1", None)]
    assert rest_form(OPEN_INTEREST, interests, SymbolDigits()) == interests
    one = learned(ACCOUNTS, rows[:1], [in_rest(rows[0], UP4)])
    assert rest_form(ACCOUNTS, rows, one) == rows, "one pair proves nothing"
    assert rest_form(ACCOUNTS, [], one) == []


def test_shares_that_are_not_those_of_the_ratio_are_refuted_and_left_unknown() -> None:
    rows = ratios(300)
    chance = random.Random(3)
    others = [f"0.{chance.randrange(10**4):04}" for _ in rows]
    rest = [in_rest(row, UP4)._replace(long_account=long, short_account=short_share(long))
            for row, long in zip(rows, others, strict=True)]  # fmt: skip
    digits = learned(ACCOUNTS, rows, rest)
    expected = [in_rest(row, UP4)._replace(long_account=None, short_account=None) for row in rows]
    assert rest_form(ACCOUNTS, rows, digits) == expected
    not_the_rest = [in_rest(row, UP4)._replace(short_account="0.1234") for row in rows]
    digits = learned(ACCOUNTS, rows, not_the_rest)
    assert rest_form(ACCOUNTS, rows, digits) == expected
    assert digits.last[-1].rest.endswith("+0.1234")
    too_much = [in_rest(row, UP4)._replace(long_account="1.0001") for row in rows]
    assert rest_form(ACCOUNTS, rows, learned(ACCOUNTS, rows, too_much)) == expected


def test_a_tie_that_no_pair_decided_keeps_the_archive_s_digits() -> None:
    overlap = [RatioRow(at, f"1.{at:04}{7 if at % 2 else 3}000", None, None) for at in range(300)]
    digits = learned(ACCOUNTS, overlap, [in_rest(row, UP4) for row in overlap])
    tie, other = RatioRow(1, "1.23445000", None, None), RatioRow(2, "1.23446000", None, None)
    printed = rest_form(ACCOUNTS, [tie, other], digits)
    assert [row[1] for row in printed] == ["1.23445000", "1.2345"]
    assert [row[2] for row in printed] == ["0.5525", "0.5525"]


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_and_no_number_make_it_fail(rule: Rule) -> None:
    odd = ["0", "0.00000000", "0.0", "1", "12345678901234567890.00000000", "0.99999999", "99999999.99999999", None]
    rows = [RatioRow(at, text, None, None) for at, text in enumerate(odd)]
    digits = learned(ACCOUNTS, ratios(300), [in_rest(row, rule) for row in ratios(300)])
    assert [row.open_ms for row in rest_form(ACCOUNTS, rows, digits)] == list(range(len(odd)))
    assert rest_form(ACCOUNTS, rows[-1:], digits) == rows[-1:]
    learned(ACCOUNTS, rows, [in_rest(row, rule) for row in rows[:-1]], digits)


def test_only_values_that_both_have_for_the_same_open_time_are_compared() -> None:
    archived = [OpenInterestRow(1, "1.50", "3.00", None), OpenInterestRow(2, None, "4.00", None),
                OpenInterestRow(3, "7.00", "8.00", None)]  # fmt: skip
    rest = [OpenInterestRow(0, "9.0", "9.0", "1"), OpenInterestRow(1, "1.5", None, "1"),
            OpenInterestRow(2, "5.0", "4.0", None)]  # fmt: skip
    found = {column[1]: list(zip(*each, strict=True)) for column, each in compared(OPEN_INTEREST, archived, rest)}
    assert found == {
        "sum_open_interest": [(1, ("1.50", "1.5"))],
        "sum_open_interest_value": [(2, ("4.00", "4.0"))],
    }
    ratio = RatioRow(1, "1.00000000", None, None)
    rest_ratios = [RatioRow(1, None, "0.5", "0.5"), RatioRow(1, "1.0", "0.5", None), RatioRow(1, "1.0", None, "0.5")]
    counts = [[len(each.pairs) for _, each in compared(ACCOUNTS, [ratio], [other])] for other in rest_ratios]
    assert counts == [[0, 1], [1, 0], [1, 0]]


def test_mismatches_are_listed_the_last_twenty_and_each_once() -> None:
    overlap = [OpenInterestRow(at, f"{at}.12345678", None, None) for at in range(1000)]
    rest = [row._replace(sum_open_interest=row.sum_open_interest[:-4]) for row in overlap if row.sum_open_interest]
    digits = learned(OPEN_INTEREST, overlap, rest)
    wrong = [row._replace(sum_open_interest="77.7777") if row.open_ms < 30 else row for row in rest]
    digits = learned(OPEN_INTEREST, overlap, wrong, digits)
    assert (digits.pairs, digits.mismatches, len(digits.last)) == (2000, 30, LAST_MAX)
    assert digits.last[-1] == Mismatch(29, OPEN_INTEREST, "sum_open_interest", "29.12345678", "77.7777")
    digits = learned(OPEN_INTEREST, overlap[15:16], wrong[15:16], digits)
    assert [each.open_ms for each in digits.last] == [*range(10, 15), *range(16, 30), 15]


def test_all_of_it_survives_being_stored() -> None:
    digits = SymbolDigits()
    assert digits_of_json(digits.to_json()) == digits
    for endpoint in (ACCOUNTS, TAKERS):
        overlap = ratios(100)
        rest: list[Any] = [in_rest(row, EVEN4) for row in overlap]
        rest[7] = rest[7]._replace(long_short_ratio="9.9999")
        archived: list[Any] = overlap
        if endpoint == TAKERS:
            archived, rest = ([TakerRow(row[0], row[1], "1", "2") for row in rows] for rows in (archived, rest))
        digits = learned(endpoint, archived, rest, digits)
        assert digits_of_json(digits.to_json()) == digits
    assert set(digits.evidence) == {column for column in COLUMNS if column[0] in (ACCOUNTS, TAKERS)}
    assert digits.last
    assert digits.prints_as(digits_of_json(digits.to_json()))
    assert not digits.prints_as(SymbolDigits())


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{}", b"\xff", b"[" * 100_000, b'{"columns":{"a.b":{"pairs":1,"mismatches":0,"behind":null}},"last":[]}',
     b'{"columns":{"openInterestHist.sum_open_interest":{"pairs":0,"mismatches":1,"behind":null}},"last":[]}',
     b'{"columns":{},"last":[[1,2]]}'],
)  # fmt: skip
def test_what_is_no_document_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match=r"digits|unknown|impossible"):
        digits_of_json(garbage)
