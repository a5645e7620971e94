"""Rows of a sparse kind: held spans that have rows at any times, or none, and what a later answer changes in them."""

import random

from app.binance.funding_rows import STAMP_AFTER_OPEN_MS, FundingRow, completed
from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.kinds.funding import FUNDING
from app.ports.coordination import ChangeFeed
from app.ports.store import EVERYTHING
from tests.sqlite.material import T0_MS
from tests.stores.databases import Database, OpenReader, OpenWriter
from tests.stores.test_seal import seal_all

H1 = INTERVALS["1h"]
SERIES = Series(FUNDING, "币安人生USDT", H1)
START_MS = T0_MS - T0_MS % DAY_MS
SPAN = Span(START_MS, START_MS + 60 * DAY_MS)
ALL = Span(0, 1 << 50)


def funding(time_ms: int, mark: int = 0) -> FundingRow:
    chance = random.Random(time_ms + mark)
    rate = f"{chance.choice(('', '-'))}0.{chance.randrange(10**8):08}"
    mark_price = chance.choice(("", None, f"{chance.randrange(1, 10**6)}.{chance.randrange(10**8):08}"))
    return FundingRow(time_ms - STAMP_AFTER_OPEN_MS, rate, mark_price, chance.choice((None, "Regular")))


def batch(rows: list[FundingRow], span: Span = SPAN, source: Source = Source.REST) -> Batch:
    return Batch(SERIES, source, Spans([span]), rows)


def month() -> list[FundingRow]:
    """Events every 8 hours, then 4, then 1, some ms off the hour, and two in one hour."""
    chance = random.Random(3)
    hours = [*range(8, 20 * 24, 8), *range(20 * 24, 40 * 24, 4), *range(40 * 24, 60 * 24)]
    times_ms = [START_MS + hour * HOUR_MS + chance.randrange(-MINUTE_MS, MINUTE_MS) for hour in hours]
    return [funding(each) for each in sorted([*times_ms, times_ms[5] + 7 * MINUTE_MS])]


async def test_events_are_read_and_printed_as_they_came_and_never_sealed(
    database: Database, writer: OpenWriter, reader: OpenReader, feed: ChangeFeed
) -> None:
    rows = month()
    other = Series(FUNDING, "BTCUSDT", H1)
    await writer.commit([Batch(other, Source.REST, Spans([SPAN]), rows[:9])])
    before = (await feed.changes(None)).last
    [committed] = await writer.commit([batch(rows)])
    assert committed.ledger.held == Spans([SPAN])
    assert {each: change.span for each, change in (await feed.changes(before)).series.items()} == {SERIES: SPAN}
    await seal_all(writer, SERIES)
    assert not database.blocks(SERIES)
    assert (await reader.read(SERIES, ALL, 10_000)).rows == rows
    assert await reader.read_spans({SERIES: SPAN}) == {SERIES: rows}
    for newest, first, end in ((True, -60, None), (False, 0, 60), (True, -500, None)):
        part = rows[first:end]
        found = await reader.read_encoded(SERIES, SPAN, len(part), newest=newest)
        assert found == (len(part), b"[" + b",".join(FUNDING.encode(row, 0) for row in part) + b"]")
    window = Span(rows[40].open_ms, rows[43].open_ms + 1)
    number, body = await reader.read_encoded(SERIES, window, 10)
    assert number == 4, "to the ms"
    assert completed(body, SERIES.symbol).count('{"symbol":"币安人生USDT","fundingTime":'.encode()) == 4


async def test_a_span_without_events_is_held_and_one_may_come_into_it(writer: OpenWriter, reader: OpenReader) -> None:
    [committed] = await writer.commit([batch([])])
    assert (committed.ledger.held, committed.revised) == (Spans([SPAN]), 0)
    late = funding(START_MS + 9 * HOUR_MS + 3)
    [committed] = await writer.commit([batch([late])])
    assert (committed.ledger.held, committed.revised) == (Spans([SPAN]), 0)
    assert (await reader.read(SERIES, ALL, 10)).rows == [late]


async def test_events_that_differ_become_revisions_and_those_that_lack_stay(
    writer: OpenWriter, reader: OpenReader
) -> None:
    rows = month()
    await writer.commit([batch(rows)])
    [committed] = await writer.commit([batch(rows)])
    assert (committed.revised, committed.changed) == (0, Spans())
    other = funding(rows[30].open_ms + STAMP_AFTER_OPEN_MS, mark=1)
    moved = rows[50]._replace(open_ms=rows[50].open_ms + 1)
    answer = [*rows[:30], other, *rows[31:50], moved, *rows[51:100], *rows[200:]]
    [committed] = await writer.commit([batch(answer)])
    assert committed.revised == 2
    floor = H1.grid.floor
    assert committed.changed == Spans(
        (floor(rows[each].open_ms), floor(rows[each].open_ms) + HOUR_MS) for each in (30, 50)
    )
    expected = [*rows[:30], other, *rows[31:50], moved, *rows[51:]]
    assert (await reader.read(SERIES, ALL, 10_000)).rows == expected
    assert committed.ledger.held == Spans([SPAN])


async def test_other_sources_and_absence_do_not_replace_events_of_rest(writer: OpenWriter, reader: OpenReader) -> None:
    rows = month()
    await writer.commit([batch(rows)])
    early = Span(0, START_MS + DAY_MS)
    for source, given in ((Source.ARCHIVE, [funding(START_MS + 2 * HOUR_MS)]), (Source.ABSENT, [])):
        [committed] = await writer.commit([batch(list(given), early, source)])
        assert (committed.granted, committed.revised) == (Spans([Span(0, START_MS)]) & committed.granted, 0)
        assert (await reader.read(SERIES, Span(START_MS, EVERYTHING.end_ms), 10_000)).rows == rows
