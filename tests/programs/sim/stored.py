"""What a database of either kind holds, as the truth is compared with it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from app.domain.block_grid import block_span
from app.domain.interval import INTERVALS
from app.domain.kind import Kind
from app.domain.series import Series
from app.kinds.klines import KLINES
from app.kinds.metrics import METRICS
from app.kinds.registry import named
from infra.blocks.block import Block
from infra.blocks.rows import rows_of_text
from infra.stores.row_tables import revision_table, row_columns, row_table

Row = tuple[object, ...]
Select = Callable[[str], Iterable[Sequence[Any]]]
"""Executes a SELECT that both kinds of database understand."""


class Stored(NamedTuple):
    """All that is compared. A series is named by its name and the code of its interval."""

    ledger: Mapping[tuple[str, str], list[tuple[int, int, str]]]
    """By series: start and end (ms) and source of each line, ascending."""
    rows: Mapping[tuple[str, str], list[Row]]
    """By series: its rows, those of blocks too, ascending."""
    revisions: list[tuple[str, str, int, str, str]]
    """Series, open time (ms), old and new source of each row that was replaced or deleted."""
    listings: list[tuple[str, int, int]]
    """Symbol, onboardDate (ms), and whether it is being checked whose rows are held."""


def read(select: Select, tables: Iterable[str]) -> Stored:
    """Read a database that has `tables`. Asserts that no block is damaged and no row is held twice."""
    ledger = defaultdict(list)
    for name, code, *line in select(
        "SELECT symbol, interval, start_ms, end_ms, source FROM ledger ORDER BY symbol, interval, start_ms"
    ):
        ledger[name, code].append((line[0], line[1], line[2]))
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    kinds: list[tuple[Kind, str]] = [(KLINES, code) for code in INTERVALS] + [(kind, "5m") for kind in METRICS.values()]
    for kind, code in kinds:
        table = row_table(kind, INTERVALS[code])
        if table in tables:
            columns = ", ".join(row_columns(kind))
            for name, *row in select(f"SELECT symbol, {columns} FROM {table} ORDER BY symbol, open_time"):
                rows[name, code].append(tuple(row))
    _add_sealed(select, rows)
    revisions = select(
        f"SELECT symbol, interval, open_time, old_source, new_source FROM {revision_table(KLINES)} "
        "ORDER BY symbol, interval, open_time, old_source, new_source"
    )
    listings = select("SELECT symbol, onboard_ms, is_doubted FROM listing ORDER BY symbol")
    return Stored(
        ledger,
        rows,
        [(name, code, open_ms, old, new) for name, code, open_ms, old, new in revisions],
        [(symbol, onboard_ms, is_doubted) for symbol, onboard_ms, is_doubted in listings],
    )


def _add_sealed(select: Select, rows: dict[tuple[str, str], list[Row]]) -> None:
    for name, code, start_ms, sha256, body in list(
        select("SELECT symbol, interval, start_ms, sha256, body FROM block ORDER BY symbol, interval, start_ms")
    ):
        series: Series = named(name, INTERVALS[code])
        block = Block(bytes(body))
        block.check(bytes(sha256))
        span = block_span(series.interval, start_ms)
        twice = [row for row in rows[name, code] if span.start_ms <= int(str(row[0])) < span.end_ms]
        assert not twice, f"{series}: {len(twice)} rows beside their block of {start_ms}"
        rows[name, code] += map(tuple, rows_of_text(series.kind, block.text(0, block.rows)))
    for each in rows.values():
        each.sort(key=lambda row: int(str(row[0])))
