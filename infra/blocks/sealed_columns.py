"""Columns of which whole blocks are packed already: the klines of an archive file, sealed where it is unpacked.

The one process that writes then stores 50 kB for a day of minutes instead of 1,440 rows.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from app.domain.block_grid import block_span, is_sealable
from app.domain.columns import Columns, LazyColumns
from app.domain.interval import Grid, Interval
from app.domain.span import Spans
from app.kinds.klines import KLINES, encode_texts, texts_of
from app.ports.exchange import FileKlines
from infra.blocks.block import FRAME_ROWS, Block, Packed, pack_frames
from infra.blocks.rows import rows_of_text

Part = Packed | Columns
"""Rows that follow one another: a whole block, or some that fill none."""


class SealedColumns(LazyColumns):
    """Columns that consist of `parts`; the rows of blocks are decoded only when they are used."""

    __slots__ = ("_ends", "_grid", "parts")

    def __init__(self, parts: Sequence[Part], grid: Grid) -> None:
        """`parts` ascending, each begins after the one before ends."""
        super().__init__(_opens_ms(parts, grid))
        self.parts = parts
        self._grid = grid
        self._ends = list(accumulate(_length(part) for part in parts))

    def _all_columns(self) -> tuple[list[Any], ...]:
        return Columns.joined([self._decoded(part) for part in self.parts]).columns

    def _run(self, index: slice) -> Columns:
        start, end, step = index.indices(len(self))
        if step != 1:
            return Columns(self.columns)[index]
        kept: list[Part] = []
        for part, part_end in zip(self.parts, self._ends, strict=True):
            part_start = part_end - _length(part)
            first, last = max(start, part_start) - part_start, min(end, part_end) - part_start
            if first >= last:
                continue
            kept.append(part if last - first == _length(part) else self._decoded(part)[first:last])
        return SealedColumns(kept, self._grid)

    def within(self, spans: Spans) -> Columns:
        """The rows that open inside `spans`; blocks that lie inside stay packed."""
        parts: list[Part] = []
        for span in spans:
            inside = self.between(*span)
            assert isinstance(inside, SealedColumns), "a run of it"
            parts += inside.parts
        return SealedColumns(parts, self._grid)

    def _decoded(self, part: Part) -> Columns:
        if isinstance(part, Columns):
            return part
        block = Block(part.body)
        return Columns.of(rows_of_text(KLINES, block.text(0, block.rows)))

    def __reduce__(self) -> tuple[object, ...]:
        return SealedColumns, (self.parts, self._grid)


class BlockBuilder:
    """Packs klines that arrive in parts (a Collector of infra.binance.unpack).

    Only a span with a kline at each of its times becomes a block: whether one is missing for good is not known here.
    """

    def __init__(self, interval: Interval) -> None:
        """`interval`: that of the archive file."""
        self._interval = interval
        self._parts: dict[Interval, list[Part]] = {}
        self._begun: dict[Interval, _Begun] = {}

    def take(self, interval: Interval, rows: Columns) -> None:
        """Add klines of `interval`, which must open after all those added before."""
        if not is_sealable(interval):
            self._parts.setdefault(interval, []).append(rows)
            return
        parts = self._parts.setdefault(interval, [])
        while rows:
            begun = self._begun.get(interval)
            if begun is None:
                begun = self._begun[interval] = _Begun(interval, rows.opens_ms[0])
            inside = rows.between(*begun.span)
            begun.add(inside)
            if inside is rows and not begun.is_over():
                return
            parts += self._begun.pop(interval).part()
            rows = rows[len(inside) :]

    def found(self) -> FileKlines:
        """All added klines. Nothing can be added afterwards."""
        for interval, begun in self._begun.items():
            self._parts[interval] += begun.part()
        self._begun.clear()
        made = {interval: SealedColumns(parts, interval.grid) for interval, parts in self._parts.items()}
        return FileKlines(made.pop(self._interval), made)

    def close(self) -> None:
        """Free the memory."""
        self._parts.clear()
        self._begun.clear()


class _Begun:
    """A block whose rows are still arriving. They are printed at once, while they are in the processor's cache."""

    def __init__(self, interval: Interval, open_ms: int) -> None:
        """`open_ms`: when its first row opens."""
        self.span = block_span(interval, open_ms)
        self._grid = interval.grid
        self._opens_ms: list[int] = []
        self._frames: list[list[bytes]] = []

    def add(self, rows: Columns) -> None:
        """Add rows that open inside the span, after all those added before."""
        columns = texts_of(rows, self._grid.step_ms)
        at = 0
        while at < len(rows):
            begun = len(self._opens_ms) % FRAME_ROWS
            if not begun:
                self._frames.append([])
            end = at + FRAME_ROWS - begun
            self._frames[-1].append(encode_texts([column[at:end] for column in columns]))
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
        rows = rows_of_text(KLINES, b",".join(texts))
        return [Columns.of(rows)] if rows else []


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
