"""Which rule REST prints a column by, learned from texts of archive and REST for the same values.

Each pair of texts is a vote against the rules that do not make REST's text of the archive's. Two sources may state
different values now and then, so no single pair decides: a rule is ruled out by REFUTING_MIN pairs that a better one
explains, and pairs that no rule left explains are set aside and counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from app.binance.digits import RULES, Rule, agreed

REFUTING_MIN: Final = 2  # one pair may be of different values
FORGOTTEN: Final = 20  # a rule this far behind is not looked at again: so many pairs are not of different values
AFRESH_PAIRS_MIN: Final = 20
AFRESH_SHARE: Final = 10  # more than a tenth of so many pairs without an explanation: REST prints in another way now
PORTION: Final = 48  # pairs looked at together while there are more than RULES_FEW rules: most of them are wrong
RULES_FEW: Final = 12

Pair = tuple[str, str]
"""The text of the archive and the text of REST for the same value: plain decimals that are not negative."""


class Verdict(StrEnum):
    """What the evidence says of the rule."""

    DECIDED = "decided"
    UNDECIDED = "undecided"
    CONTRADICTORY = "contradictory"
    """No rule makes REST's texts of the archive's: the two do not print the same values, or print them otherwise."""


class EvidenceState(msgspec.Struct, forbid_unknown_fields=True):
    """Evidence as small JSON; `behind` is null while nothing is known, else `[[4,false,"half-up",0],…]`."""

    pairs: int
    mismatches: int
    behind: list[tuple[Rule, int]] | None


_ALL: Final[Mapping[Rule, int]] = MappingProxyType(dict.fromkeys(RULES, 0))


class Evidence(NamedTuple):
    """What pairs have said of the rules, since the rule was learned last."""

    behind: Mapping[Rule, int] = _ALL
    """By rule that may still be true: how many more pairs refute it than refute the best rule."""
    pairs: int = 0
    """How many pairs were looked at."""
    mismatches: int = 0
    """How many of them no rule left explained."""

    def learned(self, pairs: Sequence[Pair]) -> "Learned":
        """The evidence together with more pairs, which have no empty texts.

        If too many of them are mismatches, what was known before is forgotten, and the rule is learned from these pairs
        alone. If they are mismatches even so, they are a bad batch where what was known explains most of them, and is
        still proven with them; otherwise no rule is left.
        """
        found = self._voted(pairs)
        if not _are_too_many(found.mismatched, pairs):
            return found
        afresh = Evidence()._voted(pairs)
        if _are_too_many(afresh.mismatched, pairs):
            if len(found.mismatched) * 2 < len(pairs) and found.evidence.proven:
                return found
            afresh = afresh._replace(evidence=afresh.evidence._replace(behind={}))
        return afresh._replace(is_afresh=True)

    def _voted(self, pairs: Sequence[Pair]) -> "Learned":
        behind, mismatched = dict(self.behind), list[int]()
        start = 0
        while start < len(pairs):
            portion = pairs[start : start + PORTION] if len(behind) > RULES_FEW else pairs[start:]
            texts, wanted = [text for text, _ in portion], [text for _, text in portion]
            printed = agreed(behind, texts)
            if printed != wanted:
                differing = [at for at, text in enumerate(printed) if text != wanted[at]]
                _vote(behind, [portion[at] for at in differing if printed[at] is None])
                mismatched += [start + at for at in differing]
            start += len(portion)
        evidence = Evidence(behind, self.pairs + len(pairs))
        rules = evidence.left
        mismatched = [at for at in mismatched if not any(rule.apply(pairs[at][0]) == pairs[at][1] for rule in rules)]
        return Learned(evidence._replace(mismatches=self.mismatches + len(mismatched)), mismatched)

    @property
    def left(self) -> tuple[Rule, ...]:
        """The rules that are not ruled out."""
        return tuple(rule for rule, behind in self.behind.items() if behind < REFUTING_MIN)

    @property
    def proven(self) -> tuple[Rule, ...]:
        """The rules left; none if too many of all pairs are mismatches, so that even these are not believed."""
        return self.left if self.mismatches <= max(1, self.pairs // AFRESH_SHARE) else ()

    @property
    def rule(self) -> Rule | None:
        """The only rule that is proven."""
        return rules[0] if len(rules := self.proven) == 1 else None

    @property
    def verdict(self) -> Verdict:
        """Whether one rule is proven, several are possible, or none is."""
        rules = self.proven
        if not rules:
            return Verdict.CONTRADICTORY
        return Verdict.DECIDED if len(rules) == 1 else Verdict.UNDECIDED

    def apply_all(self, texts: Sequence[str]) -> list[str | None]:
        """What all proven rules make of the archive's texts, plain decimals; None where they differ."""
        return agreed(self.proven, texts)

    def state(self) -> EvidenceState:
        """The evidence in a form for JSON."""
        return EvidenceState(self.pairs, self.mismatches, None if self.behind == _ALL else list(self.behind.items()))


class Learned(NamedTuple):
    """The evidence after more pairs."""

    evidence: Evidence
    mismatched: list[int]
    """The places of the pairs that no rule left explains, ascending."""
    is_afresh: bool = False
    """Whether what was known before was forgotten."""


def of_state(state: EvidenceState) -> Evidence:
    """The evidence that Evidence.state gave. Raises ValueError for unknown rules and impossible numbers."""
    behind = dict(_ALL) if state.behind is None else dict(state.behind)
    if not behind.keys() <= _ALL.keys():
        raise ValueError(f"unknown rules: {list(behind)!r:.200}")
    if not 0 <= state.mismatches <= state.pairs or any(number < 0 for number in behind.values()):
        raise ValueError(f"impossible numbers: {state!r:.200}")
    return Evidence(behind, state.pairs, state.mismatches)


def stated(rules: Sequence[Rule]) -> str:
    """Rules in words, such as `4 decimals, half-up or half-even`; "" for none."""
    return "; ".join(_stated_forms(rules))


def _stated_forms(rules: Sequence[Rule]) -> Iterator[str]:
    for is_trimmed in (False, True):
        of_form = [rule for rule in rules if rule.is_trimmed is is_trimmed]
        if not of_form:
            continue
        places = sorted({rule.places for rule in of_form})
        number = f"{places[0]} to {places[-1]}" if len(places) > 1 else f"{places[0]}"
        ways = " or ".join(dict.fromkeys(rule.rounding.value for rule in of_form))
        yield f"{number} decimals{' without zeros at the end' if is_trimmed else ''}, {ways}"


def _vote(behind: dict[Rule, int], pairs: Sequence[Pair]) -> None:
    """Count the pairs that refute each rule, and forget the rules that are far behind the best."""
    if not pairs or not behind:
        return
    texts, wanted = [text for text, _ in pairs], [text for _, text in pairs]
    for rule in behind:
        behind[rule] += sum(map(str.__ne__, rule.apply_all(texts), wanted))  # type: ignore[arg-type]
    least = min(behind.values())
    for rule, number in list(behind.items()):
        if number - least < FORGOTTEN:
            behind[rule] = number - least
        else:
            del behind[rule]


def _are_too_many(mismatched: Sequence[int], pairs: Sequence[Pair]) -> bool:
    return len(pairs) >= AFRESH_PAIRS_MIN and len(mismatched) * AFRESH_SHARE > len(pairs)
