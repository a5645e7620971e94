"""Klines of an archive file, of which whole blocks are packed where it is unpacked."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain import block_grid
from app.domain.columns import Columns, newest_open_ms
from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.exchange import FileKlines
from infra.blocks.block import Packed
from infra.blocks.sealed_columns import SealedColumns
from tests.sqlite.material import BTC_1M, T0_MS, FixedClock, batch, everything, klines, minutes, packed_of, sealed_of
from tests.stores.databases import SqliteDatabase

H1 = INTERVALS["1h"]
HOURS = Series(KLINES, "BTCUSDT", H1)
BLOCK = 20
"""Minutes in a block in these tests."""


@pytest.fixture(autouse=True, scope="module")
def short_blocks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_grid, "OF_MINUTES_MS", BLOCK * MINUTE_MS)
        yield


@settings(derandomize=True, database=None)
@given(
    missing=st.sets(st.integers(0, 70), max_size=4),
    first=st.integers(-3, 74),
    last=st.integers(-3, 74),
    step=st.sampled_from((None, 1, 2, -1)),
)
def test_they_are_the_klines_that_they_stand_for(missing: set[int], first: int, last: int, step: int | None) -> None:
    numbers = [number for number in range(3, 70) if number not in missing]
    rows = klines(minutes(*((number, number + 1) for number in numbers)), M1.grid)
    packed, columns = sealed_of(rows), Columns.of(rows)
    assert isinstance(packed, SealedColumns)
    assert newest_open_ms(packed) == newest_open_ms(rows) == rows[-1].open_ms
    assert (len(packed), packed.spans(M1.grid)) == (len(rows), columns.spans(M1.grid))
    start_ms, end_ms = T0_MS + first * MINUTE_MS, T0_MS + last * MINUTE_MS
    assert packed.between(start_ms, end_ms) == columns.between(start_ms, end_ms)
    assert packed.closed_by(end_ms, M1.grid) == columns.closed_by(end_ms, M1.grid)
    some = minutes((first, first + 3), (last, last + 5))
    assert packed.within(some) == columns.within(some)
    assert packed[first:last:step] == rows[first:last:step]
    assert packed == rows
    assert list(packed) == rows
    assert packed.values("X") == columns.values("X")


def blocks_of(rows: Columns) -> list[int]:
    """The first minutes of the blocks."""
    assert isinstance(rows, SealedColumns)
    return [(part.first_ms - T0_MS) // MINUTE_MS for part in rows.parts if isinstance(part, Packed)]


def test_spans_with_a_kline_at_each_time_become_blocks() -> None:
    rows = klines(minutes((5, 45), (46, 101)), M1.grid)
    packed = sealed_of(rows)
    assert blocks_of(packed) == [20, 60, 80]
    assert blocks_of(packed[20:]) == [60, 80]
    assert blocks_of(packed.between(T0_MS, T0_MS + 90 * MINUTE_MS)) == [20, 60]


def test_open_times_are_a_range_where_none_is_missing() -> None:
    """The process that writes asks for those of a month several times for each file."""
    step_ms, start_ms = MINUTE_MS, T0_MS + 5 * MINUTE_MS
    whole = sealed_of(klines(minutes((5, 101)), M1.grid))
    assert whole.opens_ms == range(start_ms, start_ms + 96 * step_ms, step_ms)
    assert whole[15:60].opens_ms == range(start_ms + 15 * step_ms, start_ms + 60 * step_ms, step_ms)
    for hole in (7, 20, 39, 52, 99):
        rows = klines(minutes((5, hole), (hole + 1, 101)), M1.grid)
        assert list(sealed_of(rows).opens_ms) == [row.open_ms for row in rows]


def batches(rows: Sequence[Kline]) -> list[Batch]:
    """A file's minutes and hours, as they are committed."""
    packed = pickle.loads(pickle.dumps(packed_of({M1: rows, H1: roll_up(rows, H1.grid)})))
    assert packed == FileKlines(Columns.of(rows), {H1: Columns.of(roll_up(rows, H1.grid))})
    hours = packed.longer[H1]
    return [
        Batch(BTC_1M, Source.ARCHIVE, packed.rows.spans(M1.grid), packed.rows),
        Batch(HOURS, Source.ROLLUP, hours.spans(H1.grid), hours, made_of=BTC_1M),
    ]


async def test_a_file_is_stored_in_blocks_and_what_fills_none_in_rows(tmp_path: Path) -> None:
    database = await SqliteDatabase.made(tmp_path)
    writer = await database.writer(FixedClock())
    rows = klines(minutes((0, 180)), M1.grid)
    committed = await writer.commit(batches(rows))
    assert [each.granted for each in committed] == [minutes((0, 180))] * 2
    assert [number for _, number in database.blocks(BTC_1M)] == [BLOCK] * 9
    assert database.blocks(HOURS) == []
    assert (await writer.read(BTC_1M, everything(), 999)).rows == rows
    assert (await writer.read(HOURS, everything(), 999)).rows == roll_up(rows, H1.grid)
    await writer.close()


async def test_rows_that_contradict_held_ones_leave_revisions_and_better_ones_stay(tmp_path: Path) -> None:
    database = await SqliteDatabase.made(tmp_path)
    writer = await database.writer(FixedClock())
    await writer.commit([batch(BTC_1M, Source.WS, minutes((10, 20)), mark=1)])
    await writer.commit([batch(BTC_1M, Source.REST, minutes((30, 40)), mark=2)])
    rows = klines(minutes((0, 60)), M1.grid)
    [minute, _] = await writer.commit(batches(rows))
    assert minute.granted == minutes((0, 30), (40, 60))
    assert minute.revised == 10
    stored = (await writer.read(BTC_1M, everything(), 99)).rows
    assert stored == [*rows[:30], *klines(minutes((30, 40)), M1.grid, mark=2), *rows[40:]]
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 60)), mark=3)])
    assert (await writer.read(BTC_1M, everything(), 99)).rows == klines(minutes((0, 60)), M1.grid, mark=3)
    await writer.close()


async def test_what_a_hand_left_without_ledger_is_replaced_by_a_file(tmp_path: Path) -> None:
    database = await SqliteDatabase.made(tmp_path)
    writer = await database.writer(FixedClock())
    await writer.commit(batches(klines(minutes((0, 60)), M1.grid, mark=4)))
    await writer.close()
    database.forget_ledger()
    writer = await database.writer(FixedClock())
    rows = klines(minutes((0, 60)), M1.grid)
    await writer.commit(batches(rows))
    assert (await writer.read(BTC_1M, everything(), 99)).rows == rows
    assert [number for _, number in database.blocks(BTC_1M)] == [BLOCK] * 3
    await writer.close()


def test_what_a_better_source_holds_leaves_the_other_blocks_packed() -> None:
    rows = klines(minutes((0, 100)), M1.grid)
    kept = sealed_of(rows).within(minutes((0, 50), (60, 100)))
    assert blocks_of(kept) == [0, 20, 60, 80]
    assert kept == Columns.of(rows).within(minutes((0, 50), (60, 100)))
