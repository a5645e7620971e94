"""SQLite images hold exactly the klines given to them, and the database takes exactly their rows."""

import pickle
import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.columns import Columns, newest_open_ms
from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.rollup import roll_up
from app.domain.series import Series
from app.domain.span import Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.exchange import FileKlines
from infra.sqlite.sqlite_image import ATTACHED_MAX, SqliteImage, attached
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from tests.sqlite.material import BTC_1M, T0_MS, batch, everything, image_of, klines, minutes, packed_of

H1 = INTERVALS["1h"]
HOURS = Series(KLINES, "BTCUSDT", H1)


@settings(deadline=None, derandomize=True, database=None)
@given(
    numbers=st.sets(st.integers(0, 40), min_size=1),
    first=st.integers(-3, 44),
    last=st.integers(-3, 44),
    step=st.sampled_from((None, 1, 2, -1)),
)
def test_an_image_is_the_klines_that_it_stands_for(numbers: set[int], first: int, last: int, step: int | None) -> None:
    rows = klines(minutes(*((number, number + 1) for number in sorted(numbers))), M1.grid)
    packed, columns = image_of(rows), Columns.of(rows)
    assert isinstance(packed, SqliteImage)
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


def test_what_is_made_of_a_file_travels_in_one_piece() -> None:
    rows = klines(minutes((0, 120)), M1.grid)
    found = FileKlines(Columns.of(rows), {H1: Columns.of(roll_up(rows, H1.grid))})
    came = pickle.loads(pickle.dumps(packed_of({M1: rows, **found.longer})))
    assert came == found
    [hours] = came.longer.values()
    assert came.rows.pages is hours.pages, "the bytes came twice"
    assert came.rows[:60].pages is hours.pages


def batches(rows: Sequence[Kline]) -> list[Batch]:
    """The batches of a file's minutes and of the hours made of them."""
    packed = packed_of({M1: rows, H1: roll_up(rows, H1.grid)})
    hours = packed.longer[H1]
    return [
        Batch(BTC_1M, Source.ARCHIVE, packed.rows.spans(M1.grid), packed.rows),
        Batch(HOURS, Source.ROLLUP, hours.spans(H1.grid), hours, made_of=BTC_1M),
    ]


async def test_minutes_and_hours_of_an_image_are_stored_and_nothing_stays_attached(
    writer: SqliteWriter, reader: SqliteReader
) -> None:
    rows = klines(minutes((0, 180)), M1.grid)
    committed = await writer.commit(batches(rows))
    assert [each.granted for each in committed] == [minutes((0, 180))] * 2
    assert (await reader.read(BTC_1M, everything(), 999)).rows == rows
    assert (await reader.read(HOURS, everything(), 999)).rows == roll_up(rows, H1.grid)
    names = await writer._writes.run(lambda connection: connection.execute("PRAGMA database_list").fetchall())
    assert [name for _, name, _ in names] == ["main", "temp"], "the fence is a temporary table"


async def test_rows_that_contradict_held_ones_leave_revisions_and_better_ones_stay(
    writer: SqliteWriter, reader: SqliteReader
) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((10, 20)), mark=1)])
    await writer.commit([batch(BTC_1M, Source.REST, minutes((30, 40)), mark=2)])
    rows = klines(minutes((0, 60)), M1.grid)
    [minute, _] = await writer.commit(batches(rows))
    assert minute.granted == minutes((0, 30), (40, 60))
    assert minute.revised == 10
    stored = (await reader.read(BTC_1M, everything(), 99)).rows
    assert stored == [*rows[:30], *klines(minutes((30, 40)), M1.grid, mark=2), *rows[40:]]


async def test_more_images_than_can_be_attached_are_stored_all_the_same(
    writer: SqliteWriter, reader: SqliteReader
) -> None:
    series = [Series(KLINES, f"S{number}USDT", M1) for number in range(ATTACHED_MAX + 2)]
    rows = klines(minutes((0, 9)), M1.grid)
    await writer.commit([Batch(each, Source.ARCHIVE, minutes((0, 9)), image_of(rows)) for each in series])
    for each in series:
        assert (await reader.read(each, everything(), 99)).rows == rows


async def test_a_transaction_that_fails_leaves_nothing_behind(
    writer: SqliteWriter, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = klines(minutes((0, 60)), M1.grid)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteImage, "__len__", lambda self: 7)  # the copy's size will be wrong
        with pytest.raises(AssertionError):
            await writer.commit([Batch(BTC_1M, Source.ARCHIVE, minutes((0, 60)), image_of(rows))])
    assert (await reader.read(BTC_1M, everything(), 99)).rows == []
    await writer.commit(batches(rows))
    assert (await reader.read(BTC_1M, everything(), 99)).rows == rows


def test_pages_that_are_no_database_are_let_go_of() -> None:
    broken = SqliteImage(b"not a database" * 1_000, "kline_1m", array("q", range(0, 180_000, 60_000)))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with (
            pytest.raises(sqlite3.DatabaseError, match="file is not a database"),
            attached(connection, [Batch(BTC_1M, Source.ARCHIVE, Spans(), broken)]),
        ):
            connection.execute("SELECT * FROM image_0.kline_1m")
        assert len(connection.execute("PRAGMA database_list").fetchall()) <= 1
