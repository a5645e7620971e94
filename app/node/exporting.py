"""What an export of this node consists of: the spans of its series, and what their rows are read and written with."""

from collections.abc import Iterable
from typing import Final

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span
from app.exporting import download
from app.exporting.download import Busy, Downloads, Scratch
from app.exporting.export import Sources
from app.exporting.held_lines import STEP_ROWS, HeldLines
from app.exporting.plan import PlannedFile
from app.node.parts import Parts
from app.ports.store import RowReader
from app.querying.archived_rows import ByOrigin
from infra.exporting.formats import open_rows
from infra.exporting.scratch import ScratchFolder
from infra.process.folder_lock import FolderTaken
from infra.process.runtime_dir import beside

SCRATCH: Final = "export"
"""The ending of the folder in which files for requests are built, beside what the processes of a database share."""
FREE_BYTES_MIN: Final = 1 << 30
"""Room on the disk without which no request's file is begun: the largest one takes 0.8 GB."""


def due(parts: Parts, series: Iterable[Series], span: Span, as_of_ms: int | None) -> dict[Series, tuple[Grid, Span]]:
    """By series: its grid, and the part of `span` whose rows are due by now, or were by a past time."""
    wish, now_ms = parts.wish(), parts.clock.now_ms() if as_of_ms is None else as_of_ms
    found = {}
    for each in series:
        grid = parts.holdings.grid(each)
        end_ms = min(grid.ceil(span.end_ms), wish.tail(each, grid, now_ms).end_ms)
        found[each] = grid, Span(grid.ceil(span.start_ms), end_ms)
    return found


async def rows_due(found: Sources, files: Iterable[PlannedFile]) -> int:
    """How many rows are held of what `files` are to have. Raises StoreUnavailable, NotRecorded."""
    ledgers = await found.reader.ledgers()
    pieces = [piece for file in files for piece in file.pieces if piece.series in ledgers]
    spans = ((piece.grid, span) for piece in pieces for span in ledgers[piece.series].held.clip(piece.window))
    return sum(grid.count(*span) for grid, span in spans)


def sources(parts: Parts, as_of_ms: int | None, step_rows: int = STEP_ROWS) -> Sources:
    """What an export reads: the store of `parts`, of now or as it was, `step_rows` at a time.

    Raises NotRecorded for the future.
    """
    reader: RowReader = parts.reader if as_of_ms is None else parts.as_of.reader(as_of_ms)
    lines = HeldLines(reader, ByOrigin(reader, parts.rest_forms), step_rows)
    checks = parts.reader if as_of_ms is None else None
    return Sources(reader, lines, open_rows, checks, as_of_ms, parts.runtime.traced)


def downloads(parts: Parts) -> Downloads:
    """What makes the files of requests."""
    path = beside(parts.shared, SCRATCH)

    def scratch() -> Scratch:
        try:
            made = ScratchFolder(path)
        except FolderTaken as error:
            raise Busy("another export is under way") from error
        if made.free_bytes() < FREE_BYTES_MIN:
            made.release()
            raise OSError(f"the disk of {path} has less than 1 GB of room")
        return made

    return Downloads(
        lambda as_of_ms: sources(parts, as_of_ms, download.STEP_ROWS),
        parts.clock,
        lambda asked: due(parts, asked.series, asked.span, asked.as_of_ms),
        scratch,
    )
