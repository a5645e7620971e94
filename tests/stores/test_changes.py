"""The journal of changes: what a commit touched is in it, nothing else is, and it stays small."""

import pytest

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from infra.sqlite import changes
from tests.sqlite.material import BTC_1M, NOW_MS, T0_MS, batch, klines, minutes
from tests.stores.databases import OpenReader, OpenWriter

ETH_1M = Series(KLINES, "ETHUSDT", M1)
BTC_5M = Series(KLINES, "BTCUSDT", INTERVALS["5m"])


async def mark(reader: OpenReader) -> int:
    return (await reader.changes(None)).last


async def test_a_commit_is_seen_once_with_the_ledger_it_left(writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(ETH_1M, Source.WS, minutes((0, 1)))])
    start = await mark(reader)
    [first] = await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 3)))])
    results = await writer.commit(
        [batch(BTC_1M, Source.WS, minutes((3, 4))), batch(ETH_1M, Source.REST, minutes((9, 11)))]
    )
    seen = await reader.changes(start)
    assert seen.is_whole
    assert {series: change.span for series, change in seen.series.items()} == {
        BTC_1M: Span(T0_MS, T0_MS + 4 * MINUTE_MS),
        ETH_1M: minutes((9, 11)).hull,
    }
    ledgers = [seen.series[series].ledger.entries for series in (BTC_1M, ETH_1M)]
    assert ledgers == [result.ledger.entries for result in results]
    assert first.ledger.entries != results[0].ledger.entries
    assert await reader.changes(seen.last) == (seen.last, True, {})


async def test_rollups_that_are_let_go_of_are_changes_too(writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 10))), batch(BTC_5M, Source.ROLLUP, minutes((0, 10)))])
    start = await mark(reader)
    await writer.commit([batch(BTC_1M, Source.REST, minutes((6, 7)), mark=1)])
    seen = (await reader.changes(start)).series
    assert seen[BTC_1M].span == minutes((6, 7)).hull
    assert seen[BTC_5M].span == minutes((5, 10)).hull
    assert seen[BTC_5M].ledger.held == minutes((0, 5))


async def test_what_a_source_was_not_granted_is_no_change(writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(BTC_1M, Source.REST, minutes((0, 3)))])
    start = await mark(reader)
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 3)))])
    assert (await reader.changes(start)).series == {}


async def test_it_is_bounded_and_says_when_something_is_no_longer_in_it(
    writer: OpenWriter, reader: OpenReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "CHANGES_KEPT", 5)
    start = await mark(reader)
    marks = []
    for minute in range(9):
        await writer.commit([batch(BTC_1M, Source.WS, minutes((minute, minute + 1)))])
        marks.append(await mark(reader))
    assert (await reader.changes(marks[3])).series[BTC_1M].span == minutes((4, 9)).hull
    for behind in (start, marks[2]):
        assert await reader.changes(behind) == (marks[-1], False, {})


async def test_numbers_of_another_database_are_not_mistaken_for_its_own(writer: OpenWriter, reader: OpenReader) -> None:
    await writer.commit([batch(BTC_1M, Source.WS, minutes((0, 1)))])
    last = await mark(reader)
    assert last >> changes.FIRST_SHIFT == NOW_MS
    for other in (last + 7, last - 7):
        assert not (await reader.changes(other)).is_whole


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
