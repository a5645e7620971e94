"""An export: files are written two at a time, whole ones are kept, and the manifest says what each of them has."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.verification import Verification
from app.exporting.held_lines import HeldLines
from app.exporting.manifest import (
    FileEntry,
    Known,
    PieceEntry,
    SpanEntry,
    entry_of,
    entry_text,
    held_of,
    is_of,
    known_of,
    manifest_of,
    manifest_text,
    missing_rows,
)
from app.exporting.plan import Piece, PlannedFile
from app.exporting.threads import in_thread
from app.ports.clock import Clock
from app.ports.export import ExportError, ExportFolder, OpenRows, RowsFile
from app.ports.store import RowReader, StoreReader
from app.ports.tracing import Traced, untraced

FILES_AT_ONCE: Final = 2
"""One file is parsed while another is written: a third would only take memory, 40 MB each."""
TRIES_MAX: Final = 5
"""A file whose rows change while it is written is written again: live rows and repairs come once a minute or so."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What an export reads: rows and ledgers, of now or as of a past time, and how its files are opened."""

    reader: RowReader
    lines: HeldLines
    open_rows: OpenRows
    checks: StoreReader | None
    """What was verified and replaced; None as of a past time, because only what is so now is recorded."""
    as_of_ms: int | None = None
    traced: Traced = untraced

    async def check_recorded(self) -> None:
        """Raise NotRecorded when it is not known what was held at the past time, and StoreUnavailable."""
        if self.as_of_ms is not None:
            await self.reader.ledgers()


class Exported(NamedTuple):
    """What an export came to; `missing` is the number of rows that are neither held nor proven absent."""

    files: int
    kept: int
    """Files of an earlier export that were whole and still true."""
    rows: int
    bytes: int
    missing: int
    holes: tuple[tuple[Piece, SpanEntry], ...]
    digests: tuple[tuple[int, str], ...]
    """Size in bytes and SHA-256 of each file."""
    as_of_ms: int | None


class Export:
    """One run of an export into a folder."""

    def __init__(
        self, sources: Sources, folder: ExportFolder, files: Sequence[PlannedFile], advance: Callable[[int], None]
    ) -> None:
        """`advance` is called with the number of rows that were written, or that a kept file has."""
        self._sources = sources
        self._folder = folder
        self._files = files
        self._advance = advance
        self._entries: dict[str, FileEntry] = {}
        self._kept = 0

    async def run(self, klinenode: str, arguments: Sequence[str], clock: Clock) -> Exported:
        """Write what is not there yet. What is written stays.

        Raises ExportError, StoreUnavailable, OSError, and NotRecorded of a past time.
        """
        earlier = await in_thread(self._earlier)
        waiting = iter(self._files)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(FILES_AT_ONCE):
                    tasks.create_task(self._work(waiting, earlier))
        except ExceptionGroup as failed:
            raise _first(failed) from None  # one reason is enough: the others are stopped by it
        entries = earlier | self._entries
        text = manifest_text(entries.values(), klinenode, arguments, clock.now_ms())
        await in_thread(self._folder.conclude, text)
        return self._result()

    def _earlier(self) -> dict[str, FileEntry]:
        """By path: the files of earlier exports, also of one that was stopped. Raises ExportError."""
        text = self._folder.manifest()
        found = {} if text is None else {entry.path: entry for entry in manifest_of(text).files}
        journal = map(entry_of, self._folder.notes())
        return found | {entry.path: entry for entry in journal if entry is not None}

    async def _work(self, waiting: Iterator[PlannedFile], earlier: Mapping[str, FileEntry]) -> None:
        for file in waiting:
            entry = earlier.get(file.path)
            if entry is not None and await self._is_current(entry, file):
                self._kept += 1
                self._advance(entry.rows)
            else:
                with self._sources.traced("export file", {"klinenode.file": file.path}):
                    entry = await self._written(file)
                await in_thread(self._folder.note, entry_text(entry))
            self._entries[file.path] = entry

    async def _is_current(self, entry: FileEntry, file: PlannedFile) -> bool:
        if not is_of(entry, file, await self._known(file), self._sources.as_of_ms):
            return False
        return await in_thread(self._folder.digest, file.path) == (entry.bytes, entry.sha256)

    async def _known(self, file: PlannedFile) -> list[Known]:
        """What is known of each piece, now or at the past time."""
        reader, checks = self._sources.reader, self._sources.checks
        ledgers: Mapping[Series, Ledger] = {}
        if len(file.pieces) == 1:
            [piece] = file.pieces
            ledgers = {piece.series: (await reader.read(piece.series, piece.window, 0)).ledger}
        else:
            ledgers = await reader.ledgers()
        if checks is None:
            return [known_of(piece, ledgers.get(piece.series, Ledger()), None, None) for piece in file.pieces]
        verifications, revisions = await checks.verifications(), await checks.revisions()
        return [
            known_of(
                piece,
                ledgers.get(piece.series, Ledger()),
                verifications.get(piece.series, Verification()),
                revisions.get(piece.series, 0),
            )
            for piece in file.pieces
        ]

    async def _written(self, file: PlannedFile) -> FileEntry:
        """Write a file again until nothing has changed meanwhile."""
        known = await self._known(file)
        for _ in range(TRIES_MAX):
            counts = await self._tried(file, known)
            before, known = known, await self._known(file)
            if _rows_known(before) == _rows_known(known):
                self._check(file, known, counts)
                size, sha256 = await in_thread(self._folder.keep, file.path)
                pieces = tuple(
                    PieceEntry(piece.series.name, piece.series.interval.code, SpanEntry(*piece.window), count, what)
                    for piece, what, count in zip(file.pieces, known, counts, strict=True)
                )
                form, is_float, as_of_ms = file.kind.format.value, file.kind.is_float, self._sources.as_of_ms
                return FileEntry(file.path, form, is_float, sum(counts), size, sha256, pieces, as_of_ms)
            self._advance(-sum(counts))
        raise ExportError(
            f"the rows of {file.path} changed in each of {TRIES_MAX} tries: a backfill or a repair is under way; "
            "the same command goes on from here when it is over"
        )

    async def _tried(self, file: PlannedFile, known: Sequence[Known]) -> list[int]:
        """Write a file once, and close it whatever happens; returns the number of rows of each piece."""
        path = await in_thread(self._folder.begin, file.path)
        rows_file = await in_thread(self._sources.open_rows, path, file.kind, undo=_abandon)
        try:
            counts = [await self._write(rows_file, piece, what) for piece, what in zip(file.pieces, known, strict=True)]
        except BaseException:
            await in_thread(_abandon, rows_file)
            raise
        await in_thread(rows_file.close)
        return counts

    async def _write(self, file: RowsFile, piece: Piece, known: Known) -> int:
        """Write the rows of a piece, the next ones being read meanwhile; returns their number."""
        lines = self._sources.lines
        steps = iter(lines.steps(piece.series, piece.grid, held_of(known)))
        total, step = 0, next(steps, None)
        read = None if step is None else await lines.read(piece.series, piece.grid, step)
        while read is not None:
            step = next(steps, None)
            async with asyncio.TaskGroup() as tasks:
                if read.rows:
                    tasks.create_task(in_thread(file.write, piece.series, read))
                ahead = None if step is None else tasks.create_task(lines.read(piece.series, piece.grid, step))
            total += read.rows
            self._advance(read.rows)
            read = None if ahead is None else ahead.result()
        return total

    def _check(self, file: PlannedFile, known: Sequence[Known], counts: Sequence[int]) -> None:
        """Raise ExportError where the number of rows is not what the ledger says."""
        for piece, what, count in zip(file.pieces, known, counts, strict=True):
            series = piece.series
            if series.kind.is_sparse or series.interval.needs_anchor:
                continue
            due = sum(piece.grid.count(*span) for span in held_of(what))
            if due != count:
                raise ExportError(
                    f"the database has {count:,} rows of {series} in {file.path}, and its ledger says {due:,}: "
                    "klinenode verify finds and repairs the difference"
                )

    def _result(self) -> Exported:
        entries = [(self._entries[file.path], file) for file in self._files]
        holes = tuple(
            (piece, span)
            for entry, file in entries
            for piece, written in zip(file.pieces, entry.pieces, strict=True)
            for span in written.known.missing
        )
        return Exported(
            len(entries),
            self._kept,
            sum(entry.rows for entry, _ in entries),
            sum(entry.bytes for entry, _ in entries),
            sum(missing_rows(entry, file) for entry, file in entries),
            holes,
            tuple((entry.bytes, entry.sha256) for entry, _ in entries),
            self._sources.as_of_ms,
        )


def _abandon(file: RowsFile) -> None:
    """Close a file that nobody will read, so that the room of a deleted one is free at once."""
    with suppress(ExportError, OSError, ValueError):  # what is left may not be writable: the disk may be full
        file.close()


def _rows_known(known: Sequence[Known]) -> list[tuple[object, ...]]:
    """What tells whether rows have changed: all but the comparisons with the exchange."""
    return [(each.held, each.absent, each.revisions) for each in known]


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    found = failed.exceptions[0]
    return _first(found) if isinstance(found, ExceptionGroup) else found
