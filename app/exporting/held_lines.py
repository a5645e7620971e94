"""The held rows of a series as lines, some at a time: cut out of sealed blocks without being parsed, where they are."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.exporting.shapes import is_printed_in_lines, lines_of_array, shape_of
from app.ports.export import ExportError, Lines
from app.ports.store import RowReader
from app.querying.archived_rows import ByOrigin

STEP_ROWS: Final = 3 * 1_440
"""Rows of one read: 3 blocks of minutes, 0.5 MB of text. More make glibc map and unmap memory for each copy."""
SPARSE_ROWS_MAX: Final = 4 * STEP_ROWS
"""Events of one read whose window has up to STEP_ROWS hours: the exchange has one in an hour at most."""


class HeldLines:
    """Reads the lines of held rows. Everything an export knows of rows comes from here."""

    def __init__(self, store: RowReader, origins: ByOrigin, step_rows: int = STEP_ROWS) -> None:
        self._store = store
        self._origins = origins
        self._step_rows = step_rows

    def steps(self, series: Series, grid: Grid, held: Spans) -> Iterator[Span]:
        """The windows that hold all of `held`, ascending, each with at most as many open times as one read has."""
        at_ms = 0
        for span in held:
            at_ms = max(at_ms, span.start_ms if series.kind.is_sparse else grid.ceil(span.start_ms))
            while at_ms < span.end_ms:
                end_ms = grid.shift(at_ms, self._step_rows)
                yield Span(at_ms, min(end_ms, held.hull.end_ms))
                at_ms = end_ms

    async def read(self, series: Series, grid: Grid, window: Span) -> Lines:
        """The rows of a step. Raises StoreUnavailable, NotRecorded, and ExportError when there are more than can be."""
        kind = series.kind
        limit = SPARSE_ROWS_MAX if kind.is_sparse else grid.count(*window) + 1  # one more: an unanchored grid rounds
        if is_printed_in_lines(kind):
            rows, body = await self._store.read_encoded(series, window, limit)
            return Lines(rows, lines_of_array(body) if rows else b"", shape_of(kind))
        found = await self._origins.rows(series, window, limit)
        if kind.is_sparse and len(found) == limit:
            raise ExportError(f"{series} has {limit:,} or more events from {window.start_ms} to {window.end_ms}")
        return Lines(len(found), _lines(found, kind.rest.stamp_ms), shape_of(kind))


def _lines(rows: Sequence[Any], stamp_ms: int) -> bytes:
    """The lines of typed rows: open time, the time that the exchange states, values; what nobody knows is empty."""
    texts = (
        ",".join([str(row[0]), str(row[0] + stamp_ms), *["" if value is None else str(value) for value in row[1:]]])
        for row in rows
    )
    return "\n".join(texts).encode()
