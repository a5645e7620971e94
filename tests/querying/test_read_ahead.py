"""A client that pages through history finds its next page already read, and never an outdated one."""

from pathlib import Path

from app.domain.interval import M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.querying.answer import KlineQuery
from app.querying.read_ahead import AGE_MS_MAX
from tests.fakes import BTC, NOW_MS, encoded, minute, rig, running
from tests.querying.query_desk import Desk

START_MS = NOW_MS // MINUTE_MS * MINUTE_MS - 1000 * MINUTE_MS
LIMIT = 100


def page(number: int) -> Span:
    return Span(START_MS + number * LIMIT * MINUTE_MS, START_MS + (number + 1) * LIMIT * MINUTE_MS)


def query(number: int, *, off_ms: int = 0) -> KlineQuery:
    """The query for a page; with `off_ms` it starts that much earlier, for example at the previous close time."""
    return KlineQuery(BTC, page(number).start_ms - off_ms, None, LIMIT, True)


def truth(number: int) -> bytes:
    return encoded(BTC, [minute("BTCUSDT", each) for each in M1.grid.opens(*page(number))])


async def test_the_third_page_of_a_pager_needs_no_database(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        desk = Desk(made)
        await desk.hold(BTC, Span(START_MS, NOW_MS))
        ahead = desk.gatherer.read_ahead
        async with running(ahead.run):
            for number in range(5):
                await made.store.settled()
                reads = made.store.reads
                assert (await desk.query.answer(query(number, off_ms=number))).body == truth(number)
                assert (made.store.reads - reads <= 1, ahead.taken) == (True, max(0, number - 1))


async def test_who_asks_here_and_there_is_no_pager(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        desk = Desk(made)
        await desk.hold(BTC, Span(START_MS, NOW_MS))
        async with running(desk.gatherer.read_ahead.run):
            for number in (4, 2, 5, 1, 3):
                assert (await desk.query.answer(query(number))).body == truth(number)
                await made.store.settled()
        assert made.store.reads == 5


async def test_a_page_read_ahead_is_not_served_after_a_row_of_it_changed(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        desk = Desk(made)
        await desk.hold(BTC, Span(START_MS, NOW_MS))
        ahead = desk.gatherer.read_ahead
        async with running(ahead.run):
            for number in (0, 1):
                await desk.query.answer(query(number))
            await made.store.settled()
            changed = minute("BTCUSDT", page(2).start_ms)._replace(trades=77)
            span = Span(changed.open_ms, changed.open_ms + MINUTE_MS)
            await made.committer.commit([Batch(BTC, Source.REST, Spans([span]), [changed])])
            ahead.drop(BTC, span)
            assert b",77," in (await desk.query.answer(query(2))).body
            assert ahead.taken == 0


async def test_a_page_that_nobody_took_is_not_kept_for_long(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        desk = Desk(made)
        await desk.hold(BTC, Span(START_MS, NOW_MS))
        async with running(desk.gatherer.read_ahead.run):
            for number in (0, 1):
                await desk.query.answer(query(number))
            await made.store.settled()
            made.clock.ms += AGE_MS_MAX + 1
            assert (await desk.query.answer(query(2))).body == truth(2)
            assert desk.gatherer.read_ahead.taken == 0
