"""The check of an export: each file against its manifest, its rows against the spans, and against a node's answers."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.exporting.manifest import FileEntry, Manifest, PieceEntry, held_of
from app.exporting.shapes import shape_of
from app.kinds.registry import named
from app.ports.export import READ_ROWS, ExportError, ExportFolder, FileKind, Format, ReadBatch, ReadRows

FAULTS_MAX: Final = 100
"""Faults that are told; more of them are counted."""
SHOWN_ROWS_MAX: Final = 3
"""Rows of one page that are told."""


class Asked(NamedTuple):
    """Rows of a series that a node is asked for: those with open times in [first_ms, end_ms), `rows` at most.

    `as_of_ms`: as the node held them at that past time.
    """

    series: Series
    first_ms: int
    end_ms: int
    rows: int
    as_of_ms: int | None


class NodeRows(Protocol):
    """A node that answers for rows."""

    async def rows(self, asked: Asked) -> Sequence[Any]:
        """The node's rows, decoded. Raises ExportError when it does not answer with rows."""
        ...


class Verdict:
    """What a check found."""

    def __init__(self) -> None:
        self.files = 0
        self.rows = 0
        self.pages = 0
        """Pages that were compared with the node."""
        self.found = 0
        self.faults: list[str] = []

    def fault(self, text: str) -> None:
        """Count a fault, and tell the first ones."""
        self.found += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)


class Check:
    """A check of one folder."""

    def __init__(
        self,
        folder: ExportFolder,
        root: Path,
        read_rows: ReadRows,
        node: NodeRows | None = None,
        sample: int | None = None,
        seed: int = 1,
    ) -> None:
        """`sample`: how many pages of each file are compared with `node`, chosen by `seed`; None: all."""
        self._folder = folder
        self._root = root
        self._read_rows = read_rows
        self._node = node
        self._sample = sample
        self._rng = random.Random(seed)  # noqa: S311  chooses pages

    async def run(self, manifest: Manifest, advance: Callable[[int], None]) -> Verdict:
        """Check every file; `advance` is called with the number of rows of each. Raises ExportError, OSError."""
        verdict = Verdict()
        for entry in manifest.files:
            verdict.files += 1
            digest = await asyncio.to_thread(self._folder.digest, entry.path)
            if digest is None:
                verdict.fault(f"{entry.path} is missing")
            elif digest != (entry.bytes, entry.sha256):
                verdict.fault(f"{entry.path} is not the file that was written: its size or SHA-256 differs")
            else:
                for piece in entry.pieces:
                    await self._piece(entry, piece, verdict)
            advance(entry.rows)
        return verdict

    async def _piece(self, entry: FileEntry, piece: PieceEntry, verdict: Verdict) -> None:
        series = _series(piece)
        kind = FileKind(Format(entry.format), shape_of(series.kind), entry.float64)
        batches = self._read_rows(self._root / entry.path, kind, series, piece.window.span())
        place = f"{series} in {entry.path}"
        chosen, pages = self._chosen(piece), 0
        rows, last_ms = 0, piece.window.start - 1
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            opens_ms = [row[batch.names.index("open_time")] for row in batch.rows]
            _check_order(opens_ms, last_ms, piece, place, verdict)
            if self._node is not None and (chosen is None or pages in chosen):
                asked = _asked(entry, piece, Span(last_ms + 1, opens_ms[-1] + 1), len(opens_ms) + 1)
                await self._compare(asked, batch, place, verdict)
            rows, last_ms, pages = rows + len(opens_ms), opens_ms[-1], pages + 1
        verdict.rows += rows
        if rows != piece.rows:
            verdict.fault(f"{place}: {rows:,} rows, and the manifest says {piece.rows:,}")

    def _chosen(self, piece: PieceEntry) -> frozenset[int] | None:
        """The numbers of the batches that are compared with the node."""
        if self._sample is None:
            return None
        batches = range(max(1, piece.rows // READ_ROWS))
        return frozenset(self._rng.sample(batches, min(self._sample, len(batches))))

    async def _compare(self, asked: Sequence[Asked], batch: ReadBatch, place: str, verdict: Verdict) -> None:
        """Compare rows with the node's, from the row before them on: it has none between, either."""
        assert self._node is not None
        if not asked:
            return  # rows that the manifest calls missing: _check_order has told it
        theirs = [row for each in asked for row in await self._node.rows(each)]
        verdict.pages += 1
        names = [name for name, _ in asked[0].series.kind.columns]
        if len(theirs) != len(batch.rows):
            first_ms = asked[0].first_ms
            verdict.fault(f"{place}: {len(batch.rows)} rows from {first_ms} on, and the node has {len(theirs)}")
            return
        different = list(_different(batch, theirs, names))
        for text in different[:SHOWN_ROWS_MAX]:
            verdict.fault(f"{place}: {text}")
        verdict.found += len(different[SHOWN_ROWS_MAX:])


def _series(piece: PieceEntry) -> Series:
    try:
        return named(piece.symbol, INTERVALS[piece.interval])
    except KeyError as error:
        raise ExportError(
            f"the manifest names {piece.symbol} {piece.interval}, which this klinenode does not know: upgrade it"
        ) from error


def _asked(entry: FileEntry, piece: PieceEntry, span: Span, rows: int) -> list[Asked]:
    """What to ask a node for to have the rows of `span`: never what was missing, which it would fetch or refuse."""
    series, missing = _series(piece), Spans(each.span() for each in piece.known.missing)
    return [Asked(series, *each, rows, entry.as_of) for each in missing.complement(span)]


def _check_order(opens_ms: Sequence[int], last_ms: int, piece: PieceEntry, place: str, verdict: Verdict) -> None:
    held = held_of(piece.known)
    for open_ms in opens_ms:
        if open_ms <= last_ms:
            verdict.fault(f"{place}: the row of {open_ms} follows that of {last_ms}")
        elif held.span_at(open_ms) is None:
            verdict.fault(f"{place}: the row of {open_ms} is in no span that the manifest calls held")
        last_ms = open_ms


def _different(batch: ReadBatch, theirs: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    places = [(number, names.index(name)) for number, name in enumerate(batch.names) if name in names]
    for mine, other in zip(batch.rows, theirs, strict=True):
        for number, place in places:
            if not is_same(mine[number], other[place]):
                yield f"{batch.names[number]} at {other[0]} is {mine[number]}, and the node says {other[place]}"
                break


def is_same(value: Any, text: Any) -> bool:
    """Whether a value of a file is a value of a row: equal as a number, as text where both are text."""
    if isinstance(text, int) or value is None or text is None:
        return bool((value or None) == (text or None))
    if isinstance(value, float):
        return value == float(text)
    return bool(value == Decimal(text)) if isinstance(value, Decimal) else bool(value == text)
