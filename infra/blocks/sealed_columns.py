"""Columns of which whole blocks are packed already: the rows of archive files, sealed where they are unpacked.

The one process that writes then stores 50 kB for a day of minutes instead of 1,440 rows.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from app.domain.block_grid import block_span, is_sealable
from app.domain.columns import Columns, LazyColumns
from app.domain.interval import Grid, Interval
from app.domain.kind import Kind
from app.domain.span import Spans
from app.kinds.registry import KINDS
from infra.blocks.block import FRAME_ROWS, Block, Packed, pack_frames
from infra.blocks.rows import rows_of_text
from infra.blocks.texts import encode_texts, texts_of

Part = Packed | Columns
"""Rows that follow one another: a whole block, or some that fill none."""


class SealedColumns(LazyColumns):
    """Columns that consist of `parts`; the rows of blocks are decoded only when they are used."""

    __slots__ = ("_ends", "_grid", "_kind", "parts")

    def __init__(self, parts: Sequence[Part], kind: Kind, grid: Grid) -> None:
        """`parts`, rows of `kind`, ascending: each begins after the one before ends."""
        super().__init__(_opens_ms(parts, grid), kind.row)
        self.parts = parts
        self._kind = kind
        self._grid = grid
        self._ends = list(accumulate(_length(part) for part in parts))

    def _all_columns(self) -> tuple[list[Any], ...]:
        return Columns.joined([self._decoded(part) for part in self.parts]).columns

    def _run(self, index: slice) -> Columns:
        start, end, step = index.indices(len(self))
        if step != 1:
            return Columns(self.columns, self._row)[index]
        kept: list[Part] = []
        for part, part_end in zip(self.parts, self._ends, strict=True):
            part_start = part_end - _length(part)
            first, last = max(start, part_start) - part_start, min(end, part_end) - part_start
            if first >= last:
                continue
            kept.append(part if last - first == _length(part) else self._decoded(part)[first:last])
        return SealedColumns(kept, self._kind, self._grid)

    def within(self, spans: Spans) -> Columns:
        """The rows that open inside `spans`; blocks that lie inside stay packed."""
        parts: list[Part] = []
        for span in spans:
            inside = self.between(*span)
            assert isinstance(inside, SealedColumns), "a run of it"
            parts += inside.parts
        return SealedColumns(parts, self._kind, self._grid)

    def _decoded(self, part: Part) -> Columns:
        if isinstance(part, Columns):
            return part
        block = Block(part.body)
        return Columns.of(rows_of_text(self._kind, block.text(0, block.rows)))

    def __reduce__(self) -> tuple[object, ...]:
        return _unfold, (self.parts, self._kind.suffix, self._grid)


class BlockBuilder:
    """Packs the rows of a series, which arrive in parts (a Collector of infra.binance.unpack).

    Only a span with a row at each of its times becomes a block: whether one is missing for good is not known here.
    """

    def __init__(self, kind: Kind, interval: Interval) -> None:
        """`kind` and `interval`: those of the series."""
        self._kind = kind
        self._interval = interval
        self._parts: list[Part] = []
        self._begun: _Begun | None = None

    def take(self, rows: Columns) -> None:
        """Add rows, which must open after all those added before."""
        if not is_sealable(self._kind, self._interval):
            self._parts.append(rows)
            return
        at, opens_ms = 0, rows.opens_ms
        while at < len(opens_ms):
            begun = self._begun = self._begun or _Begun(self._kind, self._interval, opens_ms[at])
            end = bisect_left(opens_ms, begun.span.end_ms, at)
            begun.add(rows if end - at == len(opens_ms) else rows[at:end])
            if end == len(opens_ms) and not begun.is_over():
                return
            self._end()
            at = end

    def found(self) -> Columns:
        """All added rows. Nothing can be added afterwards."""
        self._end()
        return SealedColumns(self._parts, self._kind, self._interval.grid)

    def _end(self) -> None:
        if self._begun is not None:
            self._parts += self._begun.part()
            self._begun = None


class _Begun:
    """A block whose rows are still arriving. They are printed at once, while they are in the processor's cache."""

    def __init__(self, kind: Kind, interval: Interval, open_ms: int) -> None:
        """`open_ms`: when its first row opens."""
        self.span = block_span(interval, open_ms)
        self._kind = kind
        self._grid = interval.grid
        self._opens_ms: list[int] = []
        self._frames: list[list[bytes]] = []

    def add(self, rows: Columns) -> None:
        """Add rows that open inside the span, after all those added before."""
        texts = texts_of(self._kind, rows, self._grid.step_ms)
        at = 0
        while at < len(rows):
            begun = len(self._opens_ms) % FRAME_ROWS
            if not begun:
                self._frames.append([])
            end = at + FRAME_ROWS - begun
            self._frames[-1].append(encode_texts(self._kind, texts, at, end))
            self._opens_ms += rows.opens_ms[at:end]
            at = end

    def is_over(self) -> bool:
        """Whether no row can follow."""
        return bool(self._opens_ms) and self._opens_ms[-1] >= self.span.end_ms - self._grid.step_ms

    def part(self) -> list[Part]:
        """A block if no time of the span lacks its row, otherwise the rows; nothing if there are none."""
        texts = [b",".join(pieces) for pieces in self._frames]
        if len(self._opens_ms) == self._grid.count(*self.span):
            return [pack_frames(texts, self._opens_ms, self.span, self._grid.step_ms)]
        rows = rows_of_text(self._kind, b",".join(texts))
        return [Columns.of(rows)] if rows else []


def _unfold(parts: Sequence[Part], suffix: str, grid: Grid) -> SealedColumns:
    return SealedColumns(parts, KINDS[suffix], grid)


def _length(part: Part) -> int:
    return len(part) if isinstance(part, Columns) else part.rows


def _opens_ms(parts: Sequence[Part], grid: Grid) -> Sequence[int]:
    """The open times of `parts`. A month's are 44,640 numbers, and the process that writes asks for them five times."""
    found = [_opens_ms_of(part, grid) for part in parts]
    whole = [each for each in found if isinstance(each, range)]
    if len(whole) == len(found) and all(map(_continues, whole, whole[1:])):
        return range(whole[0].start, whole[-1].stop, grid.step_ms) if whole else ()
    return array("q", chain.from_iterable(found))


def _opens_ms_of(part: Part, grid: Grid) -> Sequence[int]:
    step_ms = grid.step_ms
    if isinstance(part, Columns):
        opens_ms = part.opens_ms
        run = range(opens_ms[0], opens_ms[0] + len(opens_ms) * step_ms, step_ms) if opens_ms else range(0)
        return run if list(run) == opens_ms else opens_ms
    if part.last_ms - part.first_ms == (part.rows - 1) * step_ms:
        return range(part.first_ms, part.last_ms + step_ms, step_ms)
    return Block(part.body).opens_ms()


def _continues(run: range, later: range) -> bool:
    return run.stop == later.start
