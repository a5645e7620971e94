"""The bytes of a sealed block."""

import random

import pytest

from app.domain.interval import M1, MINUTE_MS
from app.domain.span import Span
from infra.blocks.block import FRAME_ROWS, Block, BlockDamaged, Packed, pack, pack_frames, split
from tests.blocks.rows import DAY, printed


def packed(opens_ms: list[int]) -> Packed:
    return pack(printed(opens_ms), opens_ms, DAY, MINUTE_MS)


@pytest.mark.parametrize("seed", range(20))
def test_every_cut_gives_the_rows_that_open_there(seed: int) -> None:
    rng = random.Random(seed)
    times = list(M1.grid.opens(*DAY))
    opens_ms = sorted(rng.sample(times, rng.randint(1, len(times)))) if seed % 2 else times[rng.randrange(900) :]
    made = packed(opens_ms)
    block, rows = Block(made.body), printed(opens_ms)
    assert block.opens_ms() == opens_ms
    assert (made.rows, made.first_ms, made.last_ms) == (len(opens_ms), opens_ms[0], opens_ms[-1])
    block.check(made.sha256)
    for _ in range(50):
        start_ms = rng.randrange(DAY.start_ms - MINUTE_MS, DAY.end_ms + MINUTE_MS)
        end_ms = start_ms + rng.randrange(DAY.end_ms - DAY.start_ms)
        first, end = block.position(start_ms), block.position(end_ms)
        expected = [row for open_ms, row in zip(opens_ms, rows, strict=True) if start_ms <= open_ms < end_ms]
        text = block.text(first, end)
        assert text == b",".join(expected)
        assert split(text) == expected


def test_a_changed_byte_is_found_or_changes_nothing() -> None:
    """Zstd ignores one bit of a frame's header."""
    opens_ms = list(M1.grid.opens(*DAY))[:700]
    made = packed(opens_ms)
    rng = random.Random(1)
    text, unseen = Block(made.body).text(0, 700), 0
    for at in {*range(60), *rng.sample(range(len(made.body)), 400)}:
        body = bytearray(made.body)
        body[at] ^= 1 << rng.randrange(8)
        try:
            found = Block(bytes(body))
            assert found.text(0, 700) == text
            found.check(made.sha256)
            unseen += 1
        except BlockDamaged:
            continue
    assert unseen <= 3


def test_a_truncated_block_is_found() -> None:
    made = packed(list(M1.grid.opens(*DAY)))
    for size in (0, 1, 20, 60, len(made.body) // 2, len(made.body) - 1):
        with pytest.raises(BlockDamaged):
            Block(made.body[:size]).check(made.sha256)
    with pytest.raises(BlockDamaged, match="instead of"):
        Block(made.body + b"x")


def test_another_text_has_another_digest() -> None:
    times = list(M1.grid.opens(*DAY))
    made, other = packed(times), packed(times[:-1])
    with pytest.raises(BlockDamaged, match="SHA-256"):
        Block(other.body).check(made.sha256)


def test_rows_outside_of_the_span_are_refused() -> None:
    with pytest.raises(AssertionError, match="outside"):
        pack(printed([DAY.end_ms]), [DAY.end_ms], DAY, MINUTE_MS)
    with pytest.raises(AssertionError, match="grid"):
        pack(printed([DAY.start_ms + 1]), [DAY.start_ms + 1], Span(*DAY), MINUTE_MS)


def test_a_block_of_another_time_or_grid_is_found() -> None:
    body = packed(list(M1.grid.opens(*DAY))).body
    Block(body, DAY.start_ms, MINUTE_MS)
    for start_ms, step_ms in ((DAY.end_ms, MINUTE_MS), (DAY.start_ms, 5 * MINUTE_MS)):
        with pytest.raises(BlockDamaged, match=r"it is the block of|apart"):
            Block(body, start_ms, step_ms)


@pytest.mark.parametrize(("first", "end"), [(60, FRAME_ROWS), (0, 60), (200, 239)])
def test_a_frame_that_has_fewer_rows_than_it_states_is_damaged(first: int, end: int) -> None:
    opens_ms = list(range(DAY.start_ms, DAY.start_ms + FRAME_ROWS * MINUTE_MS, MINUTE_MS))
    short = pack_frames([b",".join(printed(opens_ms[:30]))], opens_ms, DAY, MINUTE_MS)
    with pytest.raises(BlockDamaged, match="fewer than 240 rows"):
        Block(short.body).text(first, end)
