"""Answers cut out of the sealed blocks that a store has read."""

from collections.abc import Sequence
from typing import Final

from app.domain.block_grid import block_span
from app.domain.interval import Interval
from app.domain.span import Span
from infra.blocks.block import Block

_ROUGHLY: Final = 20_000 * 86_400_000
"""A time in 2024, whose blocks are as long as most."""


def blocks_max(interval: Interval, limit: int) -> int:
    """How many blocks an answer of `limit` rows may take: one more than they fill, since it may begin inside one."""
    return 1 - -limit // interval.grid.count(*block_span(interval, _ROUGHLY))


def cut_rows(
    interval: Interval, blocks: Sequence[tuple[int, bytes]], window: Span, limit: int, *, newest: bool
) -> tuple[list[bytes], int, int]:
    """Up to `limit` rows of `blocks`, their starts and bodies in the order of `newest`.

    Returns their texts, oldest first, their number, and where the newest block ends. Raises BlockDamaged.
    """
    parts: list[bytes] = []
    left, end_ms = limit, 0
    for start_ms, body in blocks:
        block = Block(body, start_ms, interval.grid.step_ms)
        end_ms = max(end_ms, block_span(interval, start_ms).end_ms)
        first, end = block.position(window.start_ms), block.position(window.end_ms)
        first, end = (max(first, end - left), end) if newest else (first, min(end, first + left))
        if first < end:
            parts.append(block.text(first, end))
        left -= max(0, end - first)
        if not left:
            break
    if newest:
        parts.reverse()
    return parts, limit - left, end_ms
