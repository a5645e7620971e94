"""Sealed blocks whose bytes are not what was written."""

from collections.abc import Iterable
from typing import Any

from app.domain.block_grid import block_span
from app.domain.interval import INTERVALS
from app.domain.series import Series
from app.kinds.registry import named
from app.ports.errors import StoreDamaged
from infra.blocks.block import Block, BlockDamaged


def damaged(series: Series, start_ms: int, error: BlockDamaged) -> StoreDamaged:
    """`error` of the block that begins at `start_ms`, for those who asked for its rows."""
    return StoreDamaged(series, block_span(series.interval, start_ms), str(error))


def damaged_of(blocks: Iterable[tuple[Any, ...]]) -> list[StoreDamaged]:
    """The damaged ones of blocks: id, name of the series, interval, start in ms, SHA-256 and body of each."""
    found = []
    for _, name, code, start_ms, sha256, body in blocks:
        try:
            Block(body, start_ms, INTERVALS[code].grid.step_ms).check(sha256)
        except BlockDamaged as error:
            found.append(damaged(named(name, INTERVALS[code]), start_ms, error))
    return found
