"""What an export of this node consists of: the spans of its series, and what their rows are read and written with."""

from collections.abc import Iterable
from typing import Final

from app.domain.interval import DAY_MS, Grid
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.exporting import download
from app.exporting.download import Busy, Downloads, Reports, Scratch
from app.exporting.export import Sources
from app.exporting.held_lines import STEP_ROWS, HeldLines
from app.exporting.plan import PlannedFile
from app.holding.wish import Wish
from app.node.parts import Parts
from app.ports.store import RowReader
from app.querying.archived_rows import ByOrigin
from infra.exporting.formats import open_rows
from infra.exporting.scratch import ScratchFolder
from infra.process.folder_lock import FolderTaken
from infra.process.runtime_dir import beside

LAUNCH_MS: Final = 1_567_296_000_000
"""2019-09-01: the exchange has no row from before that month. A name's former listing (--as-of) may begin then."""
EARLIER_MS: Final = 30 * DAY_MS
"""The date of a listing is a hint: BTCUSDT's klines begin 17 days before it (binance-facts section 4)."""
SCRATCH: Final = "export"
"""The ending of the folder in which files for requests are built, beside what the processes of a database share."""
FREE_BYTES_MIN: Final = 1 << 30
"""Room on the disk without which no request's file is begun: the largest one takes 0.8 GB."""


def due(parts: Parts, series: Iterable[Series], span: Span, as_of_ms: int | None) -> dict[Series, tuple[Grid, Span]]:
    """By series: its grid, and the open times of the rows of `span` that are due by now, or were by a past time.

    `span` is of the times that the exchange states: `stamp_ms` after the open times, and to the ms of events.
    Nothing is due before a series can have begun, so that a span from 1970 on makes no empty files.
    """
    wish, now_ms = parts.wish(), parts.clock.now_ms() if as_of_ms is None else as_of_ms
    found = {}
    for each in series:
        grid = parts.holdings.grid(each)
        begin_ms = LAUNCH_MS if as_of_ms is not None else _begin_ms(wish, parts.holdings.ledger(each), each)
        start_ms, end_ms = (at_ms - each.kind.rest.stamp_ms for at_ms in span)
        if not each.kind.is_sparse:
            start_ms, end_ms = grid.ceil(start_ms), grid.ceil(end_ms)
        start_ms = max(start_ms, grid.floor(begin_ms))
        end_ms = min(end_ms, wish.tail(each, grid, now_ms).end_ms)
        found[each] = grid, Span(start_ms, max(start_ms, end_ms))
    return found


def _begin_ms(wish: Wish, ledger: Ledger, series: Series) -> int:
    """The first held row, or EARLIER_MS before the listing if that is earlier; without one when the exchange began."""
    listed_ms = wish.hint_ms(series)
    begin_ms = max(LAUNCH_MS, listed_ms - EARLIER_MS)
    return min(begin_ms, ledger.held.hull.start_ms) if ledger.held else begin_ms


async def rows_due(found: Sources, files: Iterable[PlannedFile]) -> int:
    """How many rows are held of what `files` are to have. Raises StoreUnavailable, NotRecorded."""
    ledgers = await found.reader.ledgers()
    pieces = [piece for file in files for piece in file.pieces if piece.series in ledgers]
    return sum(piece.rows(span) for piece in pieces for span in ledgers[piece.series].held.clip(piece.window))


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
        Reports(parts.exports, parts.observe),
    )
