"""The columns of a kind's rows in files, and the types of their values."""

from functools import cache
from typing import Final

from app.domain.kind import CLOSE_TIME, STAMP_TIME, Kind
from app.ports.export import ColumnType, Shape

PRICE_COLUMNS: Final = frozenset({"open", "high", "low", "close", "mark_price", "funding_rate"})
WORD_COLUMNS: Final = frozenset({"rate_type"})
TIME_COLUMNS: Final = frozenset({"open_time", CLOSE_TIME, STAMP_TIME})

_LINE_FEEDS: Final = bytes(range(256)).replace(b"[", b"\n")
_QUOTES: Final = b'"]'


@cache
def is_printed_in_lines(kind: Kind) -> bool:
    """Whether the printed form of rows is an array, of which `lines_of_array` makes lines without parsing it."""
    return kind.printed.startswith("[")


@cache
def shape_of(kind: Kind) -> Shape:
    """The shape of the lines of a kind: in the order of REST where it prints arrays, else in that of the columns."""
    types = dict(kind.columns)
    if is_printed_in_lines(kind):
        template, names = kind.print_with({})
        ending = lines_of_array(b"[" + template.rpartition("%")[2][1:].encode())
    else:
        names, ending = ["open_time", STAMP_TIME, *(name for name, _ in kind.columns[1:])], b""
    return Shape(tuple((name, _type(name, types.get(name, int))) for name in names), ending)


def _type(name: str, stored: object) -> ColumnType:
    """A column that nobody named is an amount, which has room for the most digits."""
    if name in TIME_COLUMNS:
        return ColumnType.TIME_MS
    if stored is int:
        return ColumnType.COUNT
    if name in WORD_COLUMNS:
        return ColumnType.WORD
    return ColumnType.PRICE if name in PRICE_COLUMNS else ColumnType.AMOUNT


def lines_of_array(body: bytes) -> bytes:
    """The lines of a JSON array of printed rows that are arrays, each with the shape's `ending`.

    One pass over the bytes: brackets become line feeds, quotes vanish; no value contains one of them. Measured: 130 ns
    a row, where cutting at `],[` takes 440.
    """
    return body[2:].translate(_LINE_FEEDS, _QUOTES) + b","
