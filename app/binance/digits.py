"""The rule by which REST prints fewer digits than the archive, found for one column from texts of both.

The archive prints open interest with 16 decimals and ratios with 8, REST with 8 and 4 (binance-facts sections 2.2 and
6.2). Whether REST rounds or cuts is nowhere written, so all rules are considered until a pair of texts refutes them.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import product
from typing import Final, NamedTuple

import msgspec

from app.binance.unreadable import UNREADABLE

PLACES_MAX: Final = 16  # as many decimals as the archive has

Pair = tuple[str, str]
"""The text of the archive and the text of REST for the same value: plain decimals that are not negative."""


class Rounding(StrEnum):
    """What becomes of digits that are not printed; a tie is a half, exactly."""

    HALF_UP = "half-up"
    HALF_EVEN = "half-even"
    DOWN = "down"


class Rule(NamedTuple):
    """How a text is printed: with `places` decimals, or with fewer if zeros at the end are cut (`is_trimmed`)."""

    places: int
    is_trimmed: bool
    rounding: Rounding

    def apply(self, text: str) -> str:
        """A plain decimal that is not negative, as REST prints it."""
        [printed] = _print((text,), self.places, self.is_trimmed, (self.rounding,))
        assert printed is not None, "one way to round always agrees with itself"
        return printed

    def refuted_by(self, pair: Pair) -> bool:
        """Whether REST's text of the pair is not what the rule makes of the archive's."""
        return self.apply(pair[0]) != pair[1]


def _print(texts: Iterable[str], places: int, is_trimmed: bool, roundings: Sequence[Rounding]) -> list[str | None]:
    """Each text as it is printed if the roundings agree about it, else None.

    Measured: 0.6 µs for a text that is cut, 1.3 for one that is rounded up.
    """
    is_up = _common(rounding is not Rounding.DOWN for rounding in roundings)
    is_up_at_tie = _common(rounding is Rounding.HALF_UP for rounding in roundings)  # of an even digit
    found: list[str | None] = []
    for text in texts:
        end = text.find(".") + 1 + places
        if end == places:  # no point
            text += "."
            end = len(text) + places
        printed: str | None = text[:end]
        if len(text) < end:
            printed = text.ljust(end, "0")
        elif (rest := text[end:]) >= "5":
            is_next = is_up if is_up == is_up_at_tie or not _is_tie(text[:end], rest) else is_up_at_tie
            if is_next is None:
                printed = None
            elif is_next:
                printed = _next(text[:end], places)
        found.append(printed)
    if is_trimmed:
        return [printed and printed.rstrip("0").removesuffix(".") for printed in found]
    return found if places else [printed and printed[:-1] for printed in found]


def _common(values: Iterable[bool]) -> bool | None:
    """The value that all have; None if they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _is_tie(printed: str, rest: str) -> bool:
    """Whether a rest of at least a half is just that, behind an even digit."""
    return rest.rstrip("0") == "5" and printed.removesuffix(".")[-1] in "02468"


def _next(printed: str, places: int) -> str:
    """The next larger number with as many decimals."""
    last = _FOLLOWING.get(printed[-1])
    if last is not None:
        return printed[:-1] + last
    digits = f"{int(printed.replace('.', '')) + 1:0{places + 1}}"
    return f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}"


_FOLLOWING: Final = dict(zip("012345678", "123456789", strict=True))


_RULES: Final = tuple(
    Rule(places, is_trimmed, rounding)
    for places, is_trimmed, rounding in product(range(PLACES_MAX + 1), (False, True), Rounding)
    if places or not is_trimmed  # without decimals there are no zeros to cut
)


class Verdict(StrEnum):
    """What the evidence says of the rule."""

    DECIDED = "decided"
    UNDECIDED = "undecided"
    CONTRADICTORY = "contradictory"
    """No rule makes REST's texts of the archive's: the two do not print the same values, or print them otherwise."""


class _State(msgspec.Struct, forbid_unknown_fields=True):
    pairs: int
    rules: list[Rule] | None
    refuting: Pair | None


class Evidence(NamedTuple):
    """The rules that no pair has refuted."""

    rules: tuple[Rule, ...] = _RULES
    pairs: int = 0
    """How many pairs were looked at."""
    refuting: Pair | None = None
    """The pair that refuted the last rules."""

    def narrowed(self, pairs: Iterable[Pair]) -> "Evidence":
        """The evidence together with more pairs. A pair in which a text is empty says nothing."""
        known = [pair for pair in pairs if pair[0] and pair[1]]
        rules, refuting = self.rules, self.refuting
        for portion in (known[:1], known[1:]):  # the first pair refutes most of all rules
            texts, wanted = [text for text, _ in portion], [text for _, text in portion]
            refuted_at = [_refuted_at(rule, texts, wanted) for rule in rules]
            left = tuple(rule for rule, at in zip(rules, refuted_at, strict=True) if at is None)
            if rules and not left:
                refuting = portion[max(at for at in refuted_at if at is not None)]
            rules = left
        return Evidence(rules, self.pairs + len(known), refuting)

    @property
    def verdict(self) -> Verdict:
        """Whether one rule is left, several, or none."""
        if not self.rules:
            return Verdict.CONTRADICTORY
        return Verdict.DECIDED if len(self.rules) == 1 else Verdict.UNDECIDED

    @property
    def rule(self) -> Rule | None:
        """The only rule that is left."""
        return self.rules[0] if len(self.rules) == 1 else None

    def apply_all(self, texts: Sequence[str]) -> list[str | None]:
        """What all rules left make of the archive's texts, plain decimals; None where they differ, and if none is left.

        Two ways to round differ in ties alone, which are rare: most texts have a form before the rule is decided.
        """
        forms: dict[tuple[int, bool], list[Rounding]] = {}
        for places, is_trimmed, rounding in self.rules:
            forms.setdefault((places, is_trimmed), []).append(rounding)
        columns = [_print(texts, *form, roundings) for form, roundings in forms.items()]
        if len(columns) <= 1:
            return columns[0] if columns else [None] * len(texts)
        return [texts_of[0] if len(set(texts_of)) == 1 else None for texts_of in zip(*columns, strict=True)]

    def to_json(self) -> bytes:
        """The evidence as small JSON: `{"pairs":7,"rules":[[8,false,"half-up"]],"refuting":null}`."""
        rules = None if self.rules == _RULES else list(self.rules)
        return msgspec.json.encode(_State(self.pairs, rules, self.refuting))


def _refuted_at(rule: Rule, texts: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The place of the first text that the rule prints otherwise; None if there is none."""
    printed = _print(texts, rule.places, rule.is_trimmed, (rule.rounding,))
    return None if printed == wanted else next(at for at, text in enumerate(wanted) if text != printed[at])


def learn(pairs: Iterable[Pair]) -> Evidence:
    """What pairs say of the rule: Evidence.rule, or Evidence.verdict why there is none."""
    return Evidence().narrowed(pairs)


def from_json(text: bytes | str) -> Evidence:
    """The evidence that Evidence.to_json gave. Raises ValueError for anything else."""
    try:
        state = msgspec.json.decode(text, type=_State)
    except UNREADABLE as error:
        raise ValueError(f"no evidence: {error}") from error
    rules = _RULES if state.rules is None else tuple(state.rules)
    if not set(rules) <= set(_RULES):
        raise ValueError(f"unknown rules: {rules!r:.200}")
    return Evidence(rules, state.pairs, state.refuting)


def shares(ratio: str, places: int, rounding: Rounding = Rounding.HALF_UP) -> tuple[str, str]:
    """The shares of long and short, as REST prints them, from their ratio r: r / (1 + r), and what is left of 1.

    `ratio` is a plain decimal that is not negative. Half-up agrees with live rows of 2026-07 to 10, cutting does not.
    """
    whole, _, fraction = ratio.partition(".")
    longs, unit = int(whole + fraction), 10**places
    total = longs + 10 ** len(fraction)
    share, rest = divmod(longs * unit, total)
    if (
        2 * rest >= total
        and rounding is not Rounding.DOWN
        and (rounding is Rounding.HALF_UP or 2 * rest > total or share % 2)
    ):
        share += 1
    return _share(share, unit), _share(unit - share, unit)


def _share(share: int, unit: int) -> str:
    """`share` of `unit`, a power of ten, as a decimal from 0 to 1 with all its decimals."""
    digits = str(unit + share)  # 1 or 2, and the decimals
    return f"{'0' if share < unit else '1'}.{digits[1:]}".removesuffix(".")
