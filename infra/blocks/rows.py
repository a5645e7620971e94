"""Rows of a kind from the text in which REST prints them, the reverse of `Kind.encode`."""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final

import msgspec

from app.domain.kind import STAMP_TIME, Kind, Row
from infra.blocks.block import BlockDamaged

_FIELD: Final = re.compile(r'"?%\((\w+)\)[ds]"?')


def rows_of_text(kind: Kind, text: bytes) -> list[Row]:
    """The rows of `text`, which are joined by commas. They are not checked. Raises BlockDamaged for other texts."""
    try:
        values: Iterable[Any] = map(_columns(kind), msgspec.json.decode(b"[" + text + b"]"))
        if kind.columns[-1][1] == str | None:
            values = (_known(row, kind) for row in values)
        return list(map(partial(tuple.__new__, kind.row), values))
    except (msgspec.DecodeError, TypeError, LookupError) as error:
        raise BlockDamaged(f"its rows cannot be read: {error}") from error


def _known(row: Iterable[Any], kind: Kind) -> Iterable[Any]:
    """The values of a printed row of a kind whose values may be unknown, and that states another time than it opens."""
    stamp_ms, *values = row
    return (stamp_ms - kind.rest.stamp_ms, *(value or None for value in values))


@cache
def _columns(kind: Kind) -> Callable[[Any], Iterable[Any]]:
    """Takes the values of the columns out of a printed row, an array or an object of numbers and texts."""
    printed = msgspec.json.decode(_FIELD.sub(r'"%\1"', kind.printed))
    items = printed.items() if isinstance(printed, dict) else enumerate(printed)
    places = {value: place for place, value in items}
    names = [name for name, _ in kind.columns]
    if f"%{STAMP_TIME}" in places:
        names[0] = STAMP_TIME
    return itemgetter(*(places[f"%{name}"] for name in names))
