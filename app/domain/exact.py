"""Exact arithmetic on decimal text by integers: products, quotients, and JSON numbers as plain decimals."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Final

from app.domain.unreadable import Unreadable

DIGITS_MAX: Final = 20
"""Digits before the point, and after it: no number of an exchange comes near, and it bounds the cost of garbage."""

REMEMBERED_MAX: Final = 8_192
"""Numbers that are remembered: prices and amounts repeat within seconds; about 1 MB for each cache."""

_NUMBER: Final = rf"(?:0|[1-9][0-9]{{0,{DIGITS_MAX - 1}}}+)(?:\.[0-9]{{1,{DIGITS_MAX}}}+)?+"
_UNSIGNED: Final = re.compile(_NUMBER)
_ALL_UNSIGNED: Final = re.compile(rf"(?:{_NUMBER} )*+")
_WIDE: Final = re.compile(r"(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+")
_JSON: Final = re.compile(r"(-?)(0|[1-9][0-9]*+)(?:\.([0-9]++))?+(?:[eE]([+-]?[0-9]{1,3}+))?+")
_TEN_TO: Final = tuple(int("1" + "0" * exponent) for exponent in range(5 * DIGITS_MAX))


def unsigned(text: str) -> str:
    """Return `text`, a plain decimal without a sign, of at most DIGITS_MAX digits on each side. Raises Unreadable."""
    if _UNSIGNED.fullmatch(text) is None:
        raise Unreadable(f"expected a decimal without sign and exponent, got {text!r:.60}")
    return text


def signed(text: str) -> str:
    """Return `text`, a plain decimal that may begin with a minus. Raises Unreadable."""
    unsigned(text[1:] if text[:1] == "-" else text)
    return text


def all_unsigned(texts: Sequence[str]) -> None:
    """Check each text as `unsigned` does, many in a third of the time. Raises Unreadable."""
    joined = " ".join(texts) + " "
    if joined.count(" ") != max(1, len(texts)) or (_ALL_UNSIGNED.fullmatch(joined) is None and texts):
        raise Unreadable(f"expected decimals without sign and exponent, got {joined!r:.200}")


def canonical(text: str) -> str:
    """The decimal without trailing zeros of its fraction: texts of one value become the same."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain(number: str) -> str:
    """A JSON number as a plain decimal of the same value; unchanged unless it has an exponent. Raises Unreadable."""
    matched = _JSON.fullmatch(number)
    if matched is None or len(number) > 3 * DIGITS_MAX:
        raise Unreadable(f"expected a number, got {number!r:.60}")
    sign, whole, fraction, exponent = matched.groups(default="")
    if not exponent:
        return number
    shift = int(exponent)
    if abs(shift) > 2 * DIGITS_MAX:
        raise Unreadable(f"expected a number of a sane size, got {number!r:.60}")
    digits = whole + fraction
    point = len(whole) + shift
    if point <= 0:
        digits, point = "0" * (1 - point) + digits, 1
    digits = digits.ljust(point, "0")
    whole = digits[:point].lstrip("0") or "0"
    fraction = digits[point:]
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def product(left: str, right: str) -> str:
    """`left` × `right` without superfluous zeros. Raises Unreadable for what `unsigned` refuses."""
    left_units, left_decimals = _units[left]
    right_units, right_decimals = _units[right]
    return _text(left_units * right_units, left_decimals + right_decimals)


class Quotients(dict[tuple[str, str], str]):
    """Quotients with so many decimals: trades of one order often have the same amount and price.

    `quotients[dividend, divisor]` is as `quotient`, which is computed once.
    """

    def __init__(self, decimals: int) -> None:
        self._decimals = decimals

    def __missing__(self, terms: tuple[str, str]) -> str:
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[terms] = found = quotient(*terms, self._decimals)
        return found


def quotient(dividend: str, divisor: str, decimals: int) -> str:
    """`dividend` ÷ `divisor`, rounded half to even, without superfluous zeros. Raises Unreadable, also for ÷ 0.

    `decimals` is from 0 to DIGITS_MAX; at most so many are returned. The dividend may be a product.
    """
    above, above_decimals = _units[dividend]
    below, below_decimals = _units[divisor]
    if not below:
        raise Unreadable(f"expected a price other than zero beside {dividend!r:.60}")
    shift = decimals + below_decimals - above_decimals
    if shift >= 0:
        above *= _TEN_TO[shift]
    else:
        below *= _TEN_TO[-shift]
    units, rest = divmod(2 * above + below, 2 * below)  # rounded half up
    if not rest and units & 1:
        units -= 1
    return _text(units, decimals)


class Checked(dict[str, str]):
    """Texts that `unsigned` accepted: `checked[text]` checks a text once, and then costs a look-up."""

    def __missing__(self, text: str) -> str:
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[text] = unsigned(text)
        return text


class Seen:
    """Texts that `unsigned` accepted, for many at a time: those seen before cost a look-up each, without a loop."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def check(self, rows: Sequence[Sequence[str]]) -> None:
        """Check each text of each row as `unsigned` does. Raises Unreadable."""
        if self._texts.issuperset(chain.from_iterable(rows)):
            return
        fresh = set(chain.from_iterable(rows)) - self._texts
        all_unsigned(list(fresh))
        if len(self._texts) + len(fresh) > REMEMBERED_MAX:
            self._texts.clear()
        if len(fresh) <= REMEMBERED_MAX:
            self._texts |= fresh


class Multiples(dict[str, str]):
    """Products with one factor: `multiples[text]` computes each once."""

    def __init__(self, factor: str) -> None:
        self._factor = factor

    def __missing__(self, text: str) -> str:
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[text] = found = product(text, self._factor)
        return found


class _Units(dict[str, tuple[int, int]]):
    """Numbers as integers of units 10^−decimals, and the decimals."""

    def __missing__(self, text: str) -> tuple[int, int]:
        if len(text) > 4 * DIGITS_MAX + 1 or _WIDE.fullmatch(text) is None:
            raise Unreadable(f"expected a decimal without sign and exponent, got {text!r:.60}")
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        whole, _, fraction = text.partition(".")
        self[text] = found = int(whole + fraction), len(fraction)
        return found


_units: Final = _Units()


def _text(units: int, decimals: int) -> str:
    """The number of `units` × 10^−`decimals` in its shortest form."""
    digits = str(units)
    if not decimals:
        return digits
    if len(digits) <= decimals:
        digits = digits.zfill(decimals + 1)
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]
