"""What was committed can be read, unchanged."""

import asyncio

import pytest

from app.domain import block_grid
from app.domain.interval import D3, DAY_MS, INTERVALS, M1, MINUTE_MS, Interval
from app.domain.ledger import Entry, Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.klines import KLINES
from app.ports.coordination import ChangeFeed
from tests.sqlite.material import BTC_1M, NOW_MS, T0_MS, batch, everything, first_opens, kline, klines, minutes
from tests.stores.databases import Database, OpenReader, OpenWriter


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=lambda interval: interval.slug)
async def test_rows_of_every_interval_come_back_byte_for_byte(
    writer: OpenWriter, reader: OpenReader, interval: Interval
) -> None:
    series = Series(KLINES, "币安人生USDT", interval)
    opens_ms = first_opens(interval, 41)
    span = Span(opens_ms[0], opens_ms[40])
    rows = klines([span], interval.grid)
    [committed] = await writer.commit([Batch(series, Source.ARCHIVE, Spans([span]), rows)])
    snapshot = await reader.read(series, everything(), 1500)
    assert [tuple(row) for row in snapshot.rows] == [tuple(row) for row in rows]
    assert {type(value) for row in snapshot.rows for value in row} == {int, str}
    assert snapshot.ledger.entries == committed.ledger.entries == (Entry(span, Source.ARCHIVE),)
    assert committed.granted == Spans([span])
    assert committed.revised == 0
    assert {name: ledger.entries for name, ledger in (await reader.ledgers()).items()} == {
        series: committed.ledger.entries
    }


async def test_minutes_and_months_of_one_symbol_do_not_mix(writer: OpenWriter, reader: OpenReader) -> None:
    month = Series(KLINES, "BTCUSDT", INTERVALS["1M"])
    month_span = Span(T0_MS, month.interval.grid.shift(T0_MS, 1))
    await writer.commit(
        [batch(BTC_1M, Source.WS, minutes((0, 3)), mark=1), batch(month, Source.REST, Spans([month_span]), mark=2)]
    )
    assert (await reader.read(BTC_1M, everything(), 9)).rows == klines(minutes((0, 3)), M1.grid, mark=1)
    assert (await reader.read(month, everything(), 9)).rows == [kline(T0_MS, mark=2)]
    ledgers = await reader.ledgers()
    assert ledgers[BTC_1M].held == minutes((0, 3))
    assert ledgers[month].held == Spans([month_span])


async def test_a_limit_takes_the_oldest_or_the_newest_rows_in_ascending_order(
    writer: OpenWriter, reader: OpenReader
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 10)))])
    window = Span(T0_MS + 2 * MINUTE_MS, T0_MS + 8 * MINUTE_MS)

    async def marks(limit: int, *, newest: bool) -> list[int]:
        rows = (await reader.read(BTC_1M, window, limit, newest=newest)).rows
        return [(row.open_ms - T0_MS) // MINUTE_MS for row in rows]

    assert await marks(3, newest=False) == [2, 3, 4]
    assert await marks(3, newest=True) == [5, 6, 7]
    assert await marks(100, newest=False) == await marks(100, newest=True) == [2, 3, 4, 5, 6, 7]
    assert await marks(0, newest=True) == []


async def test_an_unknown_series_has_no_rows_and_an_empty_ledger(reader: OpenReader) -> None:
    snapshot = await reader.read(Series(KLINES, "NOSUCH", M1), everything(), 5)
    assert snapshot.rows == []
    assert snapshot.ledger.entries == Ledger().entries


@pytest.fixture
def day_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks as long as a node's, for tests with many rows."""
    monkeypatch.setattr(block_grid, "OF_MINUTES_MS", DAY_MS)


@pytest.mark.usefixtures("day_blocks")
async def test_a_file_of_a_whole_month_is_one_commit(writer: OpenWriter, reader: OpenReader) -> None:
    month = minutes((0, 31 * 1440))
    await writer.commit([batch(BTC_1M, Source.ARCHIVE, month)])
    assert (await reader.read(BTC_1M, everything(), 50_000)).rows == klines(month, M1.grid)


async def test_a_changed_row_leaves_the_old_one_in_the_revisions(
    writer: OpenWriter, reader: OpenReader, database: Database
) -> None:
    await writer.commit(
        [batch(BTC_1M, Source.ROLLUP, minutes((0, 2)), mark=1), batch(BTC_1M, Source.WS, minutes((2, 4)), mark=1)]
    )
    told = klines(minutes((0, 6)), M1.grid, mark=1)
    told[1], told[3] = kline(told[1].open_ms, mark=2), kline(told[3].open_ms, mark=2)
    [committed] = await writer.commit([Batch(BTC_1M, Source.REST, minutes((0, 6)), told)])
    assert committed.revised == 2
    assert (await reader.read(BTC_1M, everything(), 9)).rows == told
    assert committed.ledger.entries == (Entry(Span(T0_MS, T0_MS + 6 * MINUTE_MS), Source.REST),)
    assert database.revisions() == [
        ("BTCUSDT", "1m", kline(told[1].open_ms, mark=1), "rollup", "rest", NOW_MS),
        ("BTCUSDT", "1m", kline(told[3].open_ms, mark=1), "ws", "rest", NOW_MS),
    ]
    window = Span(T0_MS, told[3].open_ms + 1)
    assert await reader.revised(BTC_1M, window, 9) == [told[1].open_ms, told[3].open_ms]
    assert await reader.revised(BTC_1M, window, 1) == [told[1].open_ms]
    assert await reader.revised(BTC_1M, Span(T0_MS, told[1].open_ms), 9) == []


async def test_a_lower_source_writes_only_where_no_higher_one_has_spoken(
    writer: OpenWriter, reader: OpenReader
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((2, 4)), mark=1)])
    [committed, absent] = await writer.commit(
        [batch(BTC_1M, Source.WS, minutes((0, 6)), mark=2), batch(BTC_1M, Source.ABSENT, minutes((0, 8)))]
    )
    assert committed.granted == minutes((0, 2), (4, 6))
    assert committed.revised == 0
    assert absent.granted == minutes((6, 8))
    rows = (await reader.read(BTC_1M, everything(), 9)).rows
    assert rows == [kline(T0_MS + m * MINUTE_MS, mark=1 if 2 <= m < 4 else 2) for m in range(6)]


async def test_batches_of_one_call_see_each_other(writer: OpenWriter, reader: OpenReader) -> None:
    results = await writer.commit(
        [
            batch(BTC_1M, Source.WS, minutes((0, 2)), mark=1),
            batch(BTC_1M, Source.REST, minutes((1, 3)), mark=2),
            batch(BTC_1M, Source.WS, minutes((2, 4)), mark=3),
        ]
    )
    assert [result.revised for result in results] == [0, 1, 0]
    assert results[2].granted == minutes((3, 4))
    rows = (await reader.read(BTC_1M, everything(), 9)).rows
    assert rows == [kline(T0_MS + m * MINUTE_MS, mark) for m, mark in enumerate((1, 2, 2, 3))]


async def test_a_learned_3d_grid_replaces_the_rows_of_the_assumed_one(writer: OpenWriter, reader: OpenReader) -> None:
    series = Series(KLINES, "XRPUSDT", D3)
    start_ms = D3.grid.ceil(T0_MS)
    assumed = Spans([(start_ms, start_ms + 30 * DAY_MS)])
    await writer.commit([batch(series, Source.ROLLUP, assumed)])
    grid = D3.anchored(start_ms + DAY_MS)
    learned = Spans([(start_ms + DAY_MS, start_ms + 28 * DAY_MS)])
    [committed] = await writer.commit([Batch(series, Source.REST, learned, klines(learned, grid))])
    assert committed.revised == 9
    rows = (await reader.read(series, everything(), 99)).rows
    assert [row.open_ms for row in rows] == [start_ms, *grid.opens(*next(iter(learned))), start_ms + 27 * DAY_MS][:10]


async def test_rows_left_behind_by_deleted_ledger_lines_break_nothing(
    writer: OpenWriter, reader: OpenReader, database: Database
) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 6)), mark=1)])
    database.forget_ledger()
    absent, fresh = await writer.commit(
        [batch(BTC_1M, Source.ABSENT, minutes((0, 2))), batch(BTC_1M, Source.WS, minutes((2, 6)), mark=2)]
    )
    assert absent.granted == minutes((0, 2)), "the writer noticed that somebody else changed the ledger"
    assert fresh.ledger.held == minutes((2, 6))
    assert (await reader.read(BTC_1M, everything(), 9)).rows == klines(minutes((2, 6)), M1.grid, mark=2)


async def test_a_batch_that_breaks_its_contract_writes_nothing(writer: OpenWriter, reader: OpenReader) -> None:
    good = batch(BTC_1M, Source.REST, minutes((0, 2)))
    rows = klines(minutes((0, 4)), M1.grid)
    for bad in (
        Batch(BTC_1M, Source.REST, minutes((0, 3)), rows),
        Batch(BTC_1M, Source.REST, minutes((0, 1), (2, 4)), rows),
        Batch(BTC_1M, Source.REST, minutes((0, 4)), rows[::-1]),
        Batch(BTC_1M, Source.REST, minutes((0, 4)), [*rows, rows[-1]]),
        Batch(BTC_1M, Source.ABSENT, minutes((0, 4)), rows),
    ):
        with pytest.raises(AssertionError):
            await writer.commit([good, bad])
    assert await reader.ledgers() == {}


async def test_what_the_node_remembers_comes_back(writer: OpenWriter, reader: OpenReader) -> None:
    assert await reader.stand_down() is None
    assert await reader.document("exchangeInfo") is None
    assert await reader.anchors() == {}
    assert await reader.extra_wishes() == {}
    for reason in ("429", "418: banned\nuntil later"):
        await writer.save_stand_down(NOW_MS, reason)
        assert await reader.stand_down() == (NOW_MS, reason)
    for body in (b"{}", b'{"symbols": "\x00\xff"}'):
        await writer.save_document("exchangeInfo", body, NOW_MS)
        assert await reader.document("exchangeInfo") == (body, NOW_MS)
    for open_ms in (T0_MS, T0_MS + DAY_MS):
        await writer.save_anchor("BTCUSDT", open_ms)
        assert await reader.anchors() == {"BTCUSDT": open_ms}
    month = Series(KLINES, "BTCUSDT", INTERVALS["1M"])
    await writer.save_extra_wishes({BTC_1M: Span(10, 20), month: Span(1, 2)})
    await writer.save_extra_wishes({BTC_1M: Span(15, 30), month: Span(5, 5)})
    assert await reader.extra_wishes() == {BTC_1M: Span(10, 30), month: Span(1, 2)}
    await writer.save_extra_wishes({})
    assert await writer.extra_wishes() == {BTC_1M: Span(10, 30), month: Span(1, 2)}


@pytest.mark.usefixtures("day_blocks")
async def test_a_cancelled_commit_still_ends_and_the_writer_knows_it(writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([])  # now the connection is open
    async with asyncio.TaskGroup() as group:
        task = group.create_task(writer.commit([batch(BTC_1M, Source.REST, minutes((0, 20_000)))]))
        for _ in range(3):
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0)
        task.cancel()
    assert task.cancelled()
    [after] = await writer.commit([batch(BTC_1M, Source.WS, minutes((20_000, 20_001)))])
    snapshot = await reader.read(BTC_1M, everything(), 30_000)
    assert snapshot.ledger.entries == after.ledger.entries
    assert [row.open_ms for row in snapshot.rows] == [
        open_ms for span in after.ledger.held for open_ms in M1.grid.opens(*span)
    ]


FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])


async def test_klines_where_none_should_be_unhold_what_was_rolled_up_without_them(
    writer: OpenWriter, reader: OpenReader
) -> None:
    await writer.commit(
        [
            batch(BTC_1M, Source.REST, minutes((0, 2), (4, 10))),
            batch(BTC_1M, Source.ABSENT, minutes((2, 4))),
            batch(FIVES, Source.ROLLUP, minutes((0, 10))),
        ]
    )
    [committed] = await writer.commit([batch(BTC_1M, Source.REST, minutes((2, 4)))])
    assert (committed.revised, committed.changed) == (0, minutes((2, 4)))
    assert [(unheld.series, unheld.spans) for unheld in committed.unheld] == [(FIVES, minutes((0, 5)))]
    assert (await reader.ledgers())[FIVES].held == minutes((5, 10))
    assert (await reader.ledgers())[BTC_1M].held == minutes((0, 10))


async def test_an_absence_that_is_withdrawn_leaves_the_rows_around_it(
    writer: OpenWriter, reader: OpenReader, feed: ChangeFeed
) -> None:
    await writer.commit(
        [
            batch(BTC_1M, Source.ABSENT, minutes((0, 2), (7, 8))),
            batch(BTC_1M, Source.REST, minutes((2, 7))),
            batch(FIVES, Source.ROLLUP, minutes((0, 5))),
            batch(FIVES, Source.REST, minutes((5, 10))),
        ]
    )
    seen = (await feed.changes(None)).last
    [withdrawn] = await writer.commit([Batch(BTC_1M, Source.ABSENT, minutes((0, 4)), [], withdraws=True)])
    assert (withdrawn.granted, withdrawn.changed) == (minutes((0, 2)), minutes((0, 2)))
    ledgers = await reader.ledgers()
    assert (ledgers[BTC_1M].held, ledgers[BTC_1M].absent) == (minutes((2, 7)), minutes((7, 8)))
    assert ledgers[FIVES].held == minutes((5, 10)), "the roll-up was made as if there was nothing"
    assert (await feed.changes(seen)).series[BTC_1M].ledger.entries == ledgers[BTC_1M].entries
    [again] = await writer.commit([Batch(BTC_1M, Source.ABSENT, minutes((0, 4)), [], withdraws=True)])
    assert not again.granted
