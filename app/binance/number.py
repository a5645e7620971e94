"""Numbers in the exchange's JSON texts, where the node hands them on in a form of its own."""

from typing import Annotated, Final

from msgspec import Meta

CHARS_MAX: Final = 40  # as app/domain/kline.py

_PLAIN: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"  # not \d, which is every script's digits

Number = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A{_PLAIN}\Z")]
"""A plain decimal in ASCII digits."""

NumberOrNone = Annotated[str, Meta(max_length=CHARS_MAX, pattern=rf"\A(?:{_PLAIN})?\Z")]
"""The same, or the empty text that stands where a contract has no such number (a dated one's funding rate)."""
