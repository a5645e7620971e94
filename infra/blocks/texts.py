"""Rows in columns printed as REST does: the same as `Kind.encode` for each, in a third of the time.

The reverse is infra/blocks/rows.py.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from app.domain.columns import Columns
from app.domain.integers import texts
from app.domain.kind import CLOSE_TIME, STAMP_TIME, Kind
from app.domain.text_columns import TextColumns

_RUNS_KEPT: Final = 16
"""Texts of times that follow one another, which the blocks of a month of five series share (90 kB each)."""
_VALUE: Final = re.compile(r"%\((\w+)\)[ds]")


Texts = Sequence[list[str] | str]
"""A column of texts for each value that a kind prints, or the text of all its rows."""


class _Form(NamedTuple):
    """How a kind prints a row: its values in order, and the row and the comma behind it in pieces.

    Every second piece stands for a value.
    """

    names: list[str]
    pieces: list[str]


def texts_of(kind: Kind, rows: Columns, step_ms: int) -> Texts:
    """The values of `rows`, which are `step_ms` long, as texts."""
    if isinstance(rows, TextColumns):
        return rows.texts
    columns = {name: column for (name, _), column in zip(kind.columns, rows.columns, strict=True)}
    after_ms = {CLOSE_TIME: step_ms - 1, STAMP_TIME: kind.rest.stamp_ms}
    return [
        _times(rows.opens_ms, after_ms[name], step_ms) if name in after_ms else _texts(columns[name])
        for name in _form(kind).names
    ]


def encode_texts(kind: Kind, texts: Texts, first: int, end: int) -> bytes:
    """The rows `[first, end)` of `texts` as `Kind.encode` prints them, joined by commas."""
    names, form = _form(kind)
    pieces, columns = [form[0]], []
    for column, after in zip(texts, form[2::2], strict=True):
        if isinstance(column, str):
            pieces[-1] += column + after
        else:
            pieces += ("", after)
            columns.append(column[first:end])
    width = len(pieces)
    assert columns, f"no values of {names}"
    pieces *= len(columns[0])
    for place, column in enumerate(columns):
        pieces[2 * place + 1 :: width] = column
    if pieces:
        pieces[-1] = pieces[-1][:-1]
    return "".join(pieces).encode()


def _texts(column: list[Any]) -> list[str] | str:
    """The values of a column as texts; unknown ones are empty."""
    if not column or isinstance(column[0], int):
        return texts(column)
    if column[0] is None and column.count(None) == len(column):
        return ""
    try:
        "".join(column)  # the quickest way to find a None
    except TypeError:
        return [text or "" for text in column]
    return column


def _times(opens_ms: Sequence[int], after_ms: int, step_ms: int) -> list[str]:
    """The times that lie so long after `opens_ms` as texts."""
    if opens_ms and opens_ms[-1] - opens_ms[0] == (len(opens_ms) - 1) * step_ms:
        return _run(opens_ms[0] + after_ms, len(opens_ms), step_ms)
    return texts([open_ms + after_ms for open_ms in opens_ms])


@lru_cache(_RUNS_KEPT)
def _run(first_ms: int, length: int, step_ms: int) -> list[str]:
    return texts(list(range(first_ms, first_ms + length * step_ms, step_ms)))


@cache
def _form(kind: Kind) -> _Form:
    pieces = _VALUE.split(f"{kind.printed},")
    return _Form(pieces[1::2], pieces)
