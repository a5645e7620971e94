"""Rows in columns printed as REST does: the same as `Kind.encode` for each, in a third of the time.

The reverse is infra/blocks/rows.py.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from app.domain.columns import Columns
from app.domain.integers import texts
from app.domain.kind import CLOSE_TIME, STAMP_TIME, Kind
from app.domain.text_columns import TextColumns

_VALUE: Final = re.compile(r"%\((\w+)\)[ds]")


class _Form(NamedTuple):
    """How a kind prints a row: its values in order, and the row and the comma behind it in pieces.

    Every second piece stands for a value.
    """

    names: list[str]
    pieces: list[str]


def texts_of(kind: Kind, rows: Columns, step_ms: int) -> Sequence[list[str]]:
    """The values of `rows`, which are `step_ms` long, as texts: a column for each that the kind prints."""
    if isinstance(rows, TextColumns):
        return rows.texts
    columns = {name: column for (name, _), column in zip(kind.columns, rows.columns, strict=True)}
    opens_ms = rows.columns[0]

    def printed(name: str) -> list[str]:
        if name == CLOSE_TIME:
            return texts([open_ms + step_ms - 1 for open_ms in opens_ms])
        if name == STAMP_TIME:
            return texts([open_ms + kind.rest.stamp_ms for open_ms in opens_ms])
        column: list[Any] = columns[name]
        if column and isinstance(column[0], int):
            return texts(column)
        return column if None not in column else [text or "" for text in column]

    return [printed(name) for name in _form(kind).names]


def encode_texts(kind: Kind, columns: Sequence[list[str]]) -> bytes:
    """The rows of `columns` (see `texts_of`) as `Kind.encode` prints them, joined by commas."""
    form = _form(kind).pieces
    pieces = form * len(columns[0])
    for place, column in enumerate(columns):
        pieces[2 * place + 1 :: len(form)] = column
    return "".join(pieces)[:-1].encode()


@cache
def _form(kind: Kind) -> _Form:
    pieces = _VALUE.split(f"{kind.printed},")
    return _Form(pieces[1::2], pieces)
