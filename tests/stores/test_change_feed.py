"""The change feed has everything that commits touched and nothing else, and keeps a bounded number of changes."""

import pytest

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.ports.coordination import ChangeFeed
from app.ports.errors import StoreUnavailable
from tests.sqlite.material import BTC_1M, T0_MS, FixedClock, batch, klines, minutes
from tests.stores.databases import Database, OpenReader, OpenWriter

ETH_1M = Series(KLINES, "ETHUSDT", M1)
BTC_5M = Series(KLINES, "BTCUSDT", INTERVALS["5m"])


async def mark(feed: ChangeFeed) -> int:
    return (await feed.changes(None)).last


async def test_a_commit_is_seen_once_with_the_ledger_it_left(writer: OpenWriter, feed: ChangeFeed) -> None:
    await writer.commit([batch(ETH_1M, Source.WS, minutes((0, 1)))])
    start = await mark(feed)
    [first] = await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 3)))])
    results = await writer.commit(
        [batch(BTC_1M, Source.WS, minutes((3, 4))), batch(ETH_1M, Source.REST, minutes((9, 11)))]
    )
    seen = await feed.changes(start)
    assert seen.is_whole
    assert {series: change.span for series, change in seen.series.items()} == {
        BTC_1M: Span(T0_MS, T0_MS + 4 * MINUTE_MS),
        ETH_1M: minutes((9, 11)).hull,
    }
    ledgers = [seen.series[series].ledger.entries for series in (BTC_1M, ETH_1M)]
    assert ledgers == [result.ledger.entries for result in results]
    assert first.ledger.entries != results[0].ledger.entries
    assert await feed.changes(seen.last) == (seen.last, True, {})


async def test_rollups_that_are_let_go_of_are_changes_too(writer: OpenWriter, feed: ChangeFeed) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 10))), batch(BTC_5M, Source.ROLLUP, minutes((0, 10)))])
    start = await mark(feed)
    await writer.commit([batch(BTC_1M, Source.REST, minutes((6, 7)), mark=1)])
    seen = (await feed.changes(start)).series
    assert seen[BTC_1M].span == minutes((6, 7)).hull
    assert seen[BTC_5M].span == minutes((5, 10)).hull
    assert seen[BTC_5M].ledger.held == minutes((0, 5))


async def test_what_a_source_was_not_granted_is_no_change(writer: OpenWriter, feed: ChangeFeed) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 3)))])
    start = await mark(feed)
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 3)))])
    assert (await feed.changes(start)).series == {}


async def test_it_is_bounded_and_says_when_something_is_no_longer_in_it(
    writer: OpenWriter, feed: ChangeFeed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.remember(5, monkeypatch)
    start = await mark(feed)
    marks = []
    for minute in range(9):
        await writer.commit([batch(BTC_1M, Source.WS, minutes((minute, minute + 1)))])
        marks.append(await mark(feed))
    assert (await feed.changes(marks[3])).series[BTC_1M].span == minutes((4, 9)).hull
    for behind in (start, marks[2]):
        assert await feed.changes(behind) == (marks[-1], False, {})


async def test_numbers_of_another_database_are_not_mistaken_for_its_own(writer: OpenWriter, feed: ChangeFeed) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
    last = await mark(feed)
    for other in (last + 7, last - 7):
        assert not (await feed.changes(other)).is_whole


async def test_none_asks_for_the_newest_number_only(writer: OpenWriter, feed: ChangeFeed) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
    start = await feed.changes(None)
    assert (start.is_whole, start.series) == (False, {}), "what was committed before is to be loaded"
    await writer.commit([batch(ETH_1M, Source.WS, minutes((0, 1)))])
    assert set((await feed.changes(start.last)).series) == {ETH_1M}


async def test_two_feeds_each_see_every_change(writer: OpenWriter, feed: ChangeFeed, database: Database) -> None:
    await writer.commit([batch(ETH_1M, Source.WS, minutes((0, 1)))])
    start, other = await mark(feed), database.change_feed()
    try:
        for minute in range(3):
            await writer.commit([batch(BTC_1M, Source.WS, minutes((minute, minute + 1)))])
            seen = await other.changes(start)
            assert seen.series[BTC_1M].span == minutes((0, minute + 1)).hull
        own = await feed.changes(start)
        assert (own.last, set(own.series), own.series[BTC_1M].span) == (seen.last, {BTC_1M}, minutes((0, 3)).hull)
    finally:
        await other.close()


async def test_there_may_be_no_database_yet(database: Database) -> None:
    feed = database.change_feed()
    try:
        with pytest.raises(StoreUnavailable):
            await feed.changes(None)
        writer = await database.writer(FixedClock())
        try:
            [committed] = await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
            assert committed.granted
            assert not (await feed.changes(None)).is_whole
        finally:
            await writer.close()
    finally:
        await feed.close()


async def test_rows_of_many_series_come_in_order_and_within_their_spans(writer: OpenWriter, reader: OpenReader) -> None:
    names = [f"S{number}USDT" for number in range(50)]
    await writer.commit([batch(Series(KLINES, name, M1), Source.WS, minutes((0, 20))) for name in names])
    await writer.commit([batch(BTC_5M, Source.REST, minutes((0, 20)))])
    wanted = {Series(KLINES, name, M1): minutes((at % 10, at % 10 + 3)).hull for at, name in enumerate(names)}
    wanted[BTC_5M] = minutes((5, 20)).hull
    wanted[ETH_1M] = minutes((0, 20)).hull
    found = await reader.read_spans(wanted)
    assert found == {
        series: klines([span], series.interval.grid) for series, span in wanted.items() if series != ETH_1M
    }
