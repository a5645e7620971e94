"""The ways in which REST may print a number of the archive with fewer digits, and a long/short ratio as two shares.

The archive prints open interest with 16 decimals and ratios with 8, REST with 8 and 4 (binance-facts sections 2.2 and
6.2). Whether REST rounds or cuts is nowhere written: app/binance/evidence.py finds it out from texts of both.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

PLACES_MAX: Final = 16  # as many decimals as the archive has
SHARE_PLACES: Final = 24  # decimals of an exact share; more than any rule prints


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
        [printed] = self.apply_all((text,))
        assert printed is not None, "one way to round always agrees with itself"
        return printed

    def apply_all(self, texts: Iterable[str]) -> list[str | None]:
        """The texts as `apply` prints each; none of them is None."""
        return _print(texts, self.places, self.is_trimmed, (self.rounding,))


RULES: Final = tuple(
    Rule(places, is_trimmed, rounding)
    for places, is_trimmed, rounding in product(range(PLACES_MAX + 1), (False, True), Rounding)
    if places or not is_trimmed  # without decimals there are no zeros to cut
)
"""All rules that are considered."""


def agreed(rules: Iterable[Rule], texts: Sequence[str]) -> list[str | None]:
    """What all rules print, of plain decimals that are not negative; None where they differ, and without any rule.

    Two ways to round differ in ties alone, which are rare: most texts have a form before the rule is decided.
    """
    forms: dict[tuple[int, bool], list[Rounding]] = {}
    for places, is_trimmed, rounding in rules:
        forms.setdefault((places, is_trimmed), []).append(rounding)
    if len(forms) > 1:
        forms = _different(forms, texts)
    columns = [_print(texts, *form, roundings) for form, roundings in forms.items()]
    if len(columns) <= 1:
        return columns[0] if columns else [None] * len(texts)
    return [texts_of[0] if len(set(texts_of)) == 1 else None for texts_of in zip(*columns, strict=True)]


def _different(
    forms: dict[tuple[int, bool], list[Rounding]], texts: Sequence[str]
) -> dict[tuple[int, bool], list[Rounding]]:
    """Only one of the forms that cut zeros and have at least as many places as any text: they print the same."""
    decimals = max((len(text.rstrip("0")) - text.find(".") - 1 for text in texts if "." in text), default=0)
    enough = [form for form in forms if form[1] and form[0] >= decimals]
    return {form: roundings for form, roundings in forms.items() if form not in enough[1:]}


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
        printed = text[:end]
        if len(text) < end:
            printed = text.ljust(end, "0")
        elif (rest := text[end:]) >= "5":
            is_tied = is_up != is_up_at_tie and rest < "6" and _is_tie(printed, rest)
            is_next = is_up_at_tie if is_tied else is_up
            if is_next is None:
                found.append(None)
                continue
            if is_next:
                printed = _next(printed, places)
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


# --- shares ----------------------------------------------------------------------------------------------------------

_TENS: Final = tuple(int("1" + "0" * places) for places in range(64))
_WHOLE: Final = _TENS[SHARE_PLACES]


def long_share(ratio: str) -> str:
    """The share of long, r / (1 + r), of a ratio r: a plain decimal that is not negative.

    It has SHARE_PLACES decimals, and a 1 behind them if the share is larger than they say: so every rule prints it as
    it would print the exact share. Measured: 1.1 µs.
    """
    whole, _, fraction = ratio.partition(".")
    longs = int(whole + fraction)
    share, rest = divmod(longs * _WHOLE, longs + _TENS[len(fraction)])
    printed = "0." + str(share).zfill(SHARE_PLACES)  # it is less than 1
    return printed + "1" if rest else printed


@lru_cache(maxsize=_TENS[4] + 1)  # all shares of four decimals: 1.5 MB
def short_share(long: str) -> str:
    """What a printed share of long, a plain decimal from 0 to 1, leaves of 1, with as many decimals.

    Rows seen live in July to October 2026 print it so. Raises ValueError for a text that is no such share.
    """
    whole, _, fraction = long.partition(".")
    unit = _TENS[len(fraction)]
    short = unit - int(whole + fraction)
    if short < 0:
        raise ValueError(f"{long!r:.60} is more than the whole")
    digits = str(unit + short)
    return f"{'0' if short < unit else '1'}.{digits[1:]}".removesuffix(".")
