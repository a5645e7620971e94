"""A name that changes hands: the former listing's klines are kept apart, complete and readable with SQL."""

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.kline import Precision
from app.domain.ledger import Entry, Source
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.kinds import price_klines
from app.kinds.klines import KLINES
from app.ports.coordination import ChangeFeed
from app.ports.store import EVERYTHING, Disagreement, Relisting
from tests.sqlite.material import BTC_1M, NOW_MS, T0_MS, batch, minutes
from tests.stores.databases import Database, OpenReader, OpenWriter

FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
THREE_DAYS = Series(KLINES, "BTCUSDT", INTERVALS["3d"])
MARK = Series(price_klines.MARK, "BTCUSDT", M1)
ETH = Series(KLINES, "ETHUSDT", M1)
OLD = Listing("BTCUSDT", 0, 1 << 42, Precision(2, 3))
FIRST_MS = T0_MS + 7 * MINUTE_MS
NEW = Listing("BTCUSDT", FIRST_MS, 1 << 42, Precision(6, 0), FIRST_MS)


async def hold(writer: OpenWriter) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 20))), batch(FIVES, Source.ROLLUP, minutes((0, 20)))])
    await writer.commit([batch(MARK, Source.REST, minutes((0, 20))), batch(ETH, Source.REST, minutes((0, 20)))])
    await writer.save_anchor("BTCUSDT", T0_MS)
    await writer.save_verified(BTC_1M, minutes((0, 20)), NOW_MS)
    await writer.save_disagreement(Disagreement(BTC_1M, T0_MS, INTERVALS["5m"], "[]", "[]", NOW_MS))


def relisting(*, keeps_newer: bool) -> Relisting:
    return Relisting(OLD, NEW, {KLINES: FIRST_MS, price_klines.MARK: FIRST_MS}, keeps_newer)


async def opens(reader: OpenReader, series: Series) -> list[int]:
    rows = (await reader.read(series, Span(0, 1 << 50), 10_000)).rows
    return [(row.open_ms - T0_MS) // MINUTE_MS for row in rows]


async def test_rows_from_before_the_first_kline_are_the_former_listing_s(
    writer: OpenWriter, reader: OpenReader, database: Database
) -> None:
    await hold(writer)
    ledgers = await writer.relist(relisting(keeps_newer=True))
    assert await opens(reader, BTC_1M) == list(range(7, 20))
    assert await opens(reader, FIVES) == [10, 15], "the bucket that both listings share is neither's"
    assert await opens(reader, MARK) == list(range(7, 20))
    assert await opens(reader, ETH) == list(range(20)), "other names keep theirs"
    assert ledgers[BTC_1M].entries == (
        Entry(Span(0, FIRST_MS), Source.ABSENT),
        Entry(minutes((7, 20)).hull, Source.REST),
    )
    assert ledgers[FIVES].entries == (
        Entry(Span(0, T0_MS + 5 * MINUTE_MS), Source.ABSENT),
        Entry(minutes((10, 20)).hull, Source.ROLLUP),
    )
    stored = await reader.ledgers()
    assert {series: stored[series].entries for series in ledgers} == {
        series: ledger.entries for series, ledger in ledgers.items()
    }
    assert await reader.anchors() == {}
    assert await reader.verifications() == {}
    assert await reader.disagreements() == []
    select = (
        "SELECT interval, count(*), min(open_time) FROM former_kline WHERE symbol = 'BTCUSDT' GROUP BY 1 ORDER BY 1"
    )
    assert database.select(select) == [("1m", 7, T0_MS), ("5m", 2, T0_MS)]
    select = "SELECT interval, start_ms, end_ms, source FROM former_ledger WHERE symbol = 'BTCUSDT' ORDER BY interval"
    assert database.select(select) == [
        ("1m", T0_MS, FIRST_MS, "rest"),
        ("5m", T0_MS, T0_MS + 10 * MINUTE_MS, "rollup"),
    ]
    select = "SELECT symbol, until_ms, onboard_ms, price_precision FROM former_listing"
    assert database.select(select) == [("BTCUSDT", FIRST_MS, 0, 2)]
    assert await reader.listings() == {"BTCUSDT": NEW}


async def test_newer_rows_in_another_precision_are_to_be_fetched_anew(writer: OpenWriter, reader: OpenReader) -> None:
    await hold(writer)
    ledgers = await writer.relist(relisting(keeps_newer=False))
    assert await opens(reader, BTC_1M) == []
    assert ledgers[BTC_1M].known == Spans([Span(0, FIRST_MS)])


async def test_the_ledger_that_the_writer_remembers_is_the_new_one(writer: OpenWriter) -> None:
    await hold(writer)
    await writer.relist(relisting(keeps_newer=True))
    [result] = await writer.commit([batch(BTC_1M, Source.WS, minutes((20, 21)))])
    assert result.ledger.held == minutes((7, 21))


async def test_the_third_listing_of_a_name_leaves_the_first_one_s_rows_alone(
    writer: OpenWriter, database: Database
) -> None:
    await hold(writer)
    await writer.relist(relisting(keeps_newer=True))
    again_ms = T0_MS + 12 * MINUTE_MS
    third = Listing("BTCUSDT", again_ms, 1 << 42, Precision(6, 0), again_ms)
    await writer.relist(Relisting(NEW, third, {KLINES: again_ms}, keeps_newer=True))
    select = (
        "SELECT until_ms, count(*) FROM former_kline WHERE symbol = 'BTCUSDT' AND interval = '1m' GROUP BY 1 ORDER BY 1"
    )
    assert database.select(select) == [(FIRST_MS, 7), (again_ms, 5)]


async def test_doubts_and_relistings_are_in_the_journal_of_every_series_of_the_name(
    writer: OpenWriter, reader: OpenReader, feed: ChangeFeed
) -> None:
    await hold(writer)
    start = (await feed.changes(None)).last
    await writer.save_listings([OLD, Listing("ETHUSDT", 0, 1 << 42, Precision(2, 3))])
    assert (await feed.changes(start)).series == {}, "nobody waits for what changes no answer"
    await writer.save_listings([OLD.doubted()])
    seen = (await feed.changes(start)).series
    assert {BTC_1M, FIVES, MARK, THREE_DAYS} <= set(seen)
    assert {change.span for change in seen.values()} == {EVERYTHING}
    assert ETH not in seen
    assert (await reader.listings())["BTCUSDT"] == OLD.doubted()
    start = (await feed.changes(None)).last
    await writer.relist(relisting(keeps_newer=True))
    seen = (await feed.changes(start)).series
    assert seen[BTC_1M].ledger.held == minutes((7, 20))
    assert set(seen) >= {BTC_1M, FIVES, MARK, THREE_DAYS}
