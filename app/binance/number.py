"""Decimal numbers in the exchange's JSON, where the node decodes and encodes them again."""

from typing import Annotated, Final

from msgspec import Meta

CHARS_MAX: Final = 40  # as TEXT_CHARS_MAX in app/domain/kline.py

_PLAIN: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"  # not \d, which also matches digits of other scripts

Number = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A{_PLAIN}\Z")]
"""A plain decimal in ASCII digits."""

NumberOrNone = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A(?:{_PLAIN})?\Z")]
"""A plain decimal, or "" where a contract has no such number (the funding rate of a dated contract)."""
