"""An export as the answer to one request: a single file, built whole before a byte is sent, by one request at a time.

What is sent is then whole, or an error: an answer that was streamed while it is made could only break off.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span
from app.events import ExportEnded, Observe
from app.exporting.export import Export, Exported, Sources
from app.exporting.plan import ENDINGS, Piece, PlannedFile, check_format, why_nothing
from app.exporting.progress import ExportProgress
from app.exporting.shapes import shape_of
from app.exporting.threads import in_thread
from app.ports.clock import Clock
from app.ports.export import ExportError, ExportFolder, FileKind, Format

ROWS_MAX: Final = 5_000_000
"""Of one answer: ten years of minutes of a symbol, up to 800 MB as CSV, made in about ten seconds."""
MADE_S_MAX: Final = 45.0
"""Of making a file: what blocks then may take some seconds more, and every answer begins within 57 (http/deadline)."""
STEP_ROWS: Final = 1_440
"""Of one read, 200 kB of text: what holds the interpreter takes less than a millisecond, so klines do not wait."""


class Busy(Exception):
    """Another export is under way."""


class TooLong(Exception):
    """The file was not made within MADE_S_MAX seconds; what there was of it is deleted."""


class Scratch(Protocol):
    """A folder for one file that is sent and deleted; nobody else has it meanwhile. Its methods block."""

    @property
    def folder(self) -> ExportFolder:
        """Where the file is built."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file that was kept. Raises OSError."""
        ...

    def release(self) -> None:
        """Delete everything."""
        ...


class Question(NamedTuple):
    """What a request asks for: series of one kind, a span of the times that the exchange states, the file's form."""

    series: tuple[Series, ...]
    span: Span
    format: Format
    is_float: bool
    allow_partial: bool
    as_of_ms: int | None = None
    """The past time as of which the rows are asked for."""


class Missing(Exception):
    """Rows that the request asks for are neither held nor proven absent; `rows` is their number."""

    def __init__(self, rows: int, series: Series, span: Span) -> None:
        super().__init__(f"{rows:,} rows are not held, the first of them of {series} from {span.start_ms} on")
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is ready to be sent; `release` must be called, and does nothing the second time."""

    name: str
    size: int
    sha256: str
    rows: int
    missing: int
    file: BinaryIO
    release: Callable[[], None]


class Reports(NamedTuple):
    """Where an export says how far it is, and how it ended."""

    progress: ExportProgress
    observe: Observe


class Downloads:
    """Makes the files of requests, one at a time for all processes of the node."""

    def __init__(
        self,
        sources: Callable[[int | None], Sources],
        clock: Clock,
        due: Callable[[Question], dict[Series, tuple[Grid, Span]]],
        scratch: Callable[[], Scratch],
        reports: Reports,
    ) -> None:
        """`sources` as of a past time raises NotRecorded for the future, `scratch` Busy and OSError.

        `due`: by series, the part of a question's span whose rows are due.
        """
        self._sources = sources
        self._clock = clock
        self._due = due
        self._scratch = scratch
        self._reports = reports

    async def make(self, question: Question) -> Download:
        """Make the file. Raises ExportError if that cannot be; Busy, Missing, TooLong, StoreUnavailable, OSError.

        Raises NotRecorded when nobody recorded what was held at the past time.
        """
        sources = self._sources(question.as_of_ms)
        file = await self._planned(question, sources)
        scratch = await in_thread(self._scratch, undo=lambda made: made.release())
        progress, began_ms = self._reports.progress, self._clock.now_ms()
        progress.begin(len(file.pieces), _rows_of(file.pieces))
        rows = size = 0
        try:
            download = await self._made(sources, file, scratch, question)
        except BaseException as error:
            result = _result_of(error)
            scratch.release()
            raise
        else:
            result, rows, size = "done", download.rows, download.size
            return download
        finally:
            progress.end()
            elapsed_s = max(0, self._clock.now_ms() - began_ms) / 1000
            self._reports.observe(ExportEnded(result, rows, size, elapsed_s))

    async def _made(self, sources: Sources, file: PlannedFile, scratch: Scratch, question: Question) -> Download:
        """The file in `scratch`, opened. Raises what `make` raises."""
        limit = asyncio.timeout(MADE_S_MAX)
        try:
            async with limit:
                export = Export(sources, scratch.folder, [file], self._reports.progress.advance)
                exported = await export.run("", (), self._clock)
        except TimeoutError as error:
            if limit.expired():
                raise TooLong(f"the file was not made within {MADE_S_MAX:.0f} s") from error
            raise
        _check(exported, question)
        size, sha256 = exported.digests[0]
        opened = await in_thread(scratch.open, file.path, undo=lambda made: made.close())
        ending = ExitStack()
        ending.callback(scratch.release)
        ending.callback(opened.close)
        return Download(file.path, size, sha256, exported.rows, exported.missing, opened, ending.close)

    async def _planned(self, question: Question, sources: Sources) -> PlannedFile:
        """The file of a question. Raises ExportError, NotRecorded, StoreUnavailable."""
        check_format(question.format, question.series)
        kinds = {each.kind for each in question.series}
        if len({shape_of(kind) for kind in kinds}) > 1 and question.format is not Format.SQLITE:
            names = " and ".join(sorted(kind.name for kind in kinds))
            raise ExportError(f"rows of {names} have different columns: ask for them one by one, or for format=sqlite")
        asked = self._due(question)
        found = (Piece(series, grid, window) for series, (grid, window) in asked.items())
        pieces = tuple(piece for piece in found if piece.rows(piece.window))
        rows = _rows_of(pieces)
        if not pieces:
            await sources.check_recorded()
            now_ms = self._clock.now_ms() if question.as_of_ms is None else question.as_of_ms
            raise ExportError(why_nothing(asked, question.span, now_ms, ("startTime", "endTime")))
        if rows > ROWS_MAX:
            raise ExportError(
                f"these are {rows:,} rows, and an answer has at most {ROWS_MAX:,}: ask for less at a time, or use "
                "klinenode export on the node's machine"
            )
        first = pieces[0].series
        kind = FileKind(question.format, shape_of(first.kind), question.is_float)
        name = first.name if len(pieces) == 1 else "klinenode"
        return PlannedFile(f"{name}-{first.interval.slug}.{ENDINGS[question.format]}", kind, pieces)


def _check(exported: Exported, question: Question) -> None:
    if exported.missing and not question.allow_partial:
        piece, span = exported.holes[0]
        raise Missing(exported.missing, piece.series, span.span())


def _rows_of(pieces: Iterable[Piece]) -> int:
    return sum(piece.rows(piece.window) for piece in pieces)


def _result_of(error: BaseException) -> str:
    """The word for the end of an export that made no file."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, Missing):
        return "missing"
    return "slow" if isinstance(error, TooLong) else "failed"
