"""What the tables of rows and their columns are called in the database.

Apart from the schema because processes that unpack need no more of it, and SQLAlchemy takes longer to import than a
month of 1m takes to unpack.
"""

from functools import cache
from typing import Final

from app.domain.interval import Interval
from app.domain.kind import Kind

_KLINES: Final = "kline"  # whose revisions had a table before there were other kinds


@cache
def row_columns(kind: Kind) -> tuple[str, ...]:
    """The columns of a kind's rows, `open_time` first."""
    return tuple(name for name, _ in kind.columns)


def row_table(kind: Kind, interval: Interval) -> str:
    """The name of the table that keeps the rows of a kind and interval."""
    return f"{kind.table}_{interval.slug}"


def revision_table(kind: Kind) -> str:
    """The name of the table that keeps replaced rows of a kind."""
    return "revision" if kind.table == _KLINES else f"{kind.table}_revision"


def former_table(kind: Kind) -> str:
    """The name of the table that keeps the rows of former listings."""
    return f"former_{kind.table}"
