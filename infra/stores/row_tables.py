"""The names of the tables of rows, and of their columns.

They are the same in every store. They are not in a schema, because unpacker processes need only the names, and
importing SQLAlchemy takes longer than unpacking a month of 1m.
"""

from functools import cache
from typing import Final

from app.domain.interval import Interval
from app.domain.kind import Kind

_KLINES: Final = "kline"  # its revisions had a table before there were other kinds


@cache
def row_columns(kind: Kind) -> tuple[str, ...]:
    """The columns of a kind's rows, `open_time` first."""
    return tuple(name for name, _ in kind.columns)


def row_table(kind: Kind, interval: Interval) -> str:
    """The name of the table of a kind's and interval's rows."""
    return f"{kind.table}_{interval.slug}"


def revision_table(kind: Kind) -> str:
    """The name of the table of a kind's replaced and deleted rows."""
    return "revision" if kind.table == _KLINES else f"{kind.table}_revision"


def former_table(kind: Kind) -> str:
    """The name of the table of a kind's rows of former listings."""
    return f"former_{kind.table}"
