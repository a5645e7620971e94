"""Answers cut out of the sealed blocks that a store has read."""

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from app.domain.block_grid import block_span
from app.domain.interval import Interval
from app.domain.kline import OPEN_MS_MAX
from app.domain.span import Span
from infra.blocks.block import Block, BlockDamaged, split

_ROUGHLY: Final = 20_000 * 86_400_000
"""A time in 2024, whose blocks are as long as most."""


def blocks_max(interval: Interval, limit: int) -> int:
    """How many blocks an answer of `limit` rows may take: one more than they fill, since it may begin inside one."""
    return 1 - -limit // interval.grid.count(*block_span(interval, _ROUGHLY))


def tiles(interval: Interval, window: Span, limit: int, *, newest: bool) -> Span:
    """The span of the blocks of which an answer of `limit` rows of `window` consists if no row is missing there.

    It is empty if the window ends at no real time, from which `newest` rows could be counted.
    """
    count, start_ms, end_ms = interval.grid.count, window.start_ms, window.end_ms
    if not newest:
        found = block_span(interval, start_ms)
        while found.end_ms < end_ms and count(start_ms, found.end_ms) < limit:
            found = Span(found.start_ms, block_span(interval, found.end_ms).end_ms)
        return found
    if end_ms > OPEN_MS_MAX:
        return Span(0, 0)
    found = block_span(interval, end_ms - 1)
    while found.start_ms > start_ms and count(found.start_ms, end_ms) < limit:
        found = Span(block_span(interval, found.start_ms - 1).start_ms, found.end_ms)
    return found


class Unsealed(NamedTuple):
    """An answer's rows that are not sealed: their number, when the first opens, and their text without brackets."""

    rows: int
    first_ms: int | None
    text: bytes


def spliced(
    interval: Interval,
    window: Span,
    limit: int,
    unsealed: Unsealed,
    blocks: Sequence[tuple[int, bytes]],
    outer_ms: int | None,
    *,
    newest: bool,
) -> tuple[int, bytes] | None:
    """An answer of up to `limit` rows of `window` out of `blocks` and `unsealed`: the number of rows, and its body.

    `blocks` are the starts and bodies of up to `blocks_max` blocks that overlap the window, in the order of `newest`,
    and at least one. `outer_ms` is the open time of the window's oldest unsealed row; if `newest`, it is not needed.
    Returns None if that is not enough: sealed and unsealed spans take turns, or a block is damaged.
    """
    try:
        left = limit - unsealed.rows if newest else limit
        parts, sealed, end_ms = _cut(interval, blocks, window, left, newest=newest)
    except BlockDamaged:
        return None  # reading them one by one tells which
    is_short = sealed + (unsealed.rows if newest else 0) < limit
    first_ms = unsealed.first_ms if newest else outer_ms
    if (is_short and len(blocks) == blocks_max(interval, limit)) or (first_ms is not None and first_ms < end_ms):
        return None
    rows = min(unsealed.rows, limit - sealed)
    if rows:
        text = unsealed.text
        parts.append(text if rows == unsealed.rows else b",".join(split(text)[:rows]))
    if not parts:
        return 0, b"[]"
    parts[0] = b"[" + parts[0]  # of a piece each, so that the whole body is copied only once
    parts[-1] += b"]"
    return sealed + rows, b",".join(parts)


def _cut(
    interval: Interval, blocks: Sequence[tuple[int, bytes]], window: Span, limit: int, *, newest: bool
) -> tuple[list[bytes], int, int]:
    """Up to `limit` rows of `blocks`, their starts and bodies in the order of `newest`.

    Returns their texts, oldest first, their number, and where the newest block ends. Raises BlockDamaged.
    """
    found: list[list[bytes]] = []
    left, end_ms = limit, 0
    for start_ms, body in blocks:
        block = Block(body, start_ms, interval.grid.step_ms)
        end_ms = max(end_ms, block_span(interval, start_ms).end_ms)
        first, end = block.position(window.start_ms), block.position(window.end_ms)
        first, end = (max(first, end - left), end) if newest else (first, min(end, first + left))
        if first < end:
            found.append(block.texts(first, end))
        left -= max(0, end - first)
        if not left:
            break
    if newest:
        found.reverse()
    return list(chain.from_iterable(found)), limit - left, end_ms
