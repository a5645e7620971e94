"""Decimal numbers in the exchange's JSON, where the node decodes and encodes them again."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

CHARS_MAX: Final = 40  # as TEXT_CHARS_MAX in app/domain/kline.py

_UNSIGNED: Final = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"  # not \d, which also matches digits of other scripts
_PLAIN: Final = rf"-?{_UNSIGNED}"
_AMOUNTS: Final = re.compile(
    rf"(?:(?:(?![^ ]{{{CHARS_MAX + 1}}})(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+)?+ )*+"  # _UNSIGNED, but faster
)

Number = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A{_PLAIN}\Z")]
"""A plain decimal in ASCII digits."""

NumberOrNone = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A(?:{_PLAIN})?\Z")]
"""A plain decimal, or "" where a contract has no such number (the funding rate of a dated contract)."""

AmountOrNone = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A(?:{_UNSIGNED})?\Z")]
"""A plain decimal that is not negative, or "" where the exchange knows no value."""


def are_amounts(texts: Sequence[str]) -> bool:
    """Whether all texts are valid as AmountOrNone, in a tenth of the time that msgspec takes for its pattern."""
    joined = " ".join(texts) + " "
    return joined.count(" ") == max(1, len(texts)) and _AMOUNTS.fullmatch(joined) is not None
