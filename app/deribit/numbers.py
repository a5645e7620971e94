"""Deribit's numbers, which are JSON numbers, as exact decimal text."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from app.domain import exact
from app.domain.unreadable import Unreadable

Digits = Any
"""A number as the decoders below leave it: an int, or the text of what has a point or an exponent; None for null."""


def decoder(kind: type) -> "msgspec.json.Decoder[Any]":
    """A decoder of `kind` that leaves each number in a field of type Digits with the exchange's own digits."""
    return msgspec.json.Decoder(kind, float_hook=str)


class _Texts(dict[str, str]):
    """The exact texts of numbers with a point or an exponent that are not negative, each made once.

    Integers are looked up too, but not kept: a dict cannot tell them from booleans. Unreadable: it is no number;
    TypeError: a list or an object.
    """

    def __init__(self, made: Callable[[str], str]) -> None:
        self._made = made

    def __missing__(self, number: Digits) -> str:
        if type(number) is not str:
            return unsigned(number)
        if len(self) >= exact.REMEMBERED_MAX:
            self.clear()
        has_exponent = "e" in number or "E" in number
        self[number] = found = self._made(exact.unsigned(exact.plain(number) if has_exponent else number))
        return found


text: Final = _Texts(str)
"""`text[number]` is `unsigned(number)`."""
canonical: Final = _Texts(exact.canonical)
"""The same without superfluous zeros."""


def unsigned(number: Digits) -> str:
    """The exact text of a number that is not negative; exponents are written out. Raises Unreadable."""
    if type(number) is str:
        return text[number]
    if type(number) is int:
        return exact.unsigned(str(number))
    raise Unreadable(f"expected a number, got {number!r:.60}")


def signed(number: Digits) -> str:
    """The exact text of a number that may be negative. Raises Unreadable."""
    if type(number) is str:
        return exact.signed(exact.plain(number))
    if type(number) is int:
        return exact.signed(str(number))
    raise Unreadable(f"expected a number, got {number!r:.60}")


def unsigned_or_none(number: Digits) -> str | None:
    """As `unsigned`; None for null."""
    return None if number is None else unsigned(number)
