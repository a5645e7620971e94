"""Rows of a kind from the text in which REST prints them, the reverse of `Kind.encode`."""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final

import msgspec

from app.domain.kind import Kind, Row
from infra.blocks.block import BlockDamaged

_FIELD: Final = re.compile(r'"?%\((\w+)\)[ds]"?')


def rows_of_text(kind: Kind, text: bytes) -> list[Row]:
    """The rows of `text`, which are joined by commas. They are not checked. Raises BlockDamaged for other texts."""
    try:
        values = msgspec.json.decode(b"[" + text + b"]")
        return list(map(partial(tuple.__new__, kind.row), map(_columns(kind), values)))
    except (msgspec.DecodeError, TypeError, LookupError) as error:
        raise BlockDamaged(f"its rows cannot be read: {error}") from error


@cache
def _columns(kind: Kind) -> Callable[[Any], Iterable[Any]]:
    """Takes the values of the columns out of a printed row, an array or an object of numbers and texts."""
    printed = msgspec.json.decode(_FIELD.sub(r'"%\1"', kind.printed))
    items = printed.items() if isinstance(printed, dict) else enumerate(printed)
    places = {value: place for place, value in items}
    return itemgetter(*(places[f"%{name}"] for name, _ in kind.columns))
