"""Which answers need the database, and for how long they are valid."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from app.binance.error_body import BinanceError
from app.domain.interval import M1, MINUTE_MS, Grid
from app.domain.kind import Row
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.tail import Live, SeriesTail
from app.querying.answer import END_OF_TIME_MS, KlineQuery
from app.querying.tail_cut import CLOSING_PAGE_MS, STREAMED_PAGE_MS
from tests.fakes import BTC, NOW_MS, minute, turn
from tests.querying.query_desk import CLOSED_MS, desk, opens


async def test_an_answer_that_ends_with_the_newest_kline_is_true_until_the_next_one_closes(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        answer = await at.answer()
        assert answer.valid_until_ms == CLOSED_MS + MINUTE_MS
        assert answer.touches == Span(CLOSED_MS - 5 * MINUTE_MS, END_OF_TIME_MS)
        assert not answer.is_live


async def test_an_answer_given_while_a_closing_frame_is_awaited_is_soon_made_anew(tmp_path: Path) -> None:
    async with desk(tmp_path, now_ms=CLOSED_MS + 1_000) as at:
        answer = await at.answer()
        assert opens(answer)[-1] == CLOSED_MS - 2 * MINUTE_MS, "the last minute may still change"
        assert answer.valid_until_ms == CLOSED_MS + 1_000 + CLOSING_PAGE_MS


async def test_a_minute_that_closed_early_is_served_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path, now_ms=CLOSED_MS + 200) as at:
        for back in range(9, 0, -1):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS - back * MINUTE_MS))
        answer = await at.answer()
        assert opens(answer)[-1] == CLOSED_MS - MINUTE_MS
        assert answer.valid_until_ms == CLOSED_MS + MINUTE_MS


async def test_an_answer_about_the_past_is_true_until_it_is_repaired(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        start_ms, end_ms = CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS - 40 * MINUTE_MS
        answer = await at.answer(start_ms=start_ms, end_ms=end_ms - 1, limit=100)
        assert (answer.touches, answer.valid_until_ms) == (Span(start_ms, end_ms), END_OF_TIME_MS)
        at.rig.dropped.clear()
        await at.hold(BTC, Span(end_ms - MINUTE_MS, end_ms))
        assert any(series == BTC and span.clip(answer.touches) for series, span in at.rig.dropped)


async def test_an_answer_with_the_kline_in_progress_is_true_for_a_moment(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        answer = await at.answer(only_final=False)
        assert answer.is_live
        assert answer.valid_until_ms == NOW_MS + STREAMED_PAGE_MS


async def test_a_process_that_does_not_write_keeps_nothing_it_read_through(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, end_ms=CLOSED_MS - 40 * MINUTE_MS)
        assert at.rig.store.commits == []


async def test_tails_that_lost_touch_with_the_store_are_neither_used_nor_fed(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS))
        at.rig.is_current = False
        bodies = {(await at.answer(limit=100)).body for _ in range(3)}
        assert (len(bodies), at.rig.store.reads) == (1, 3)
        assert at.rig.tail.rows == 0


async def test_a_question_about_the_newest_klines_needs_the_database_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS))
        bodies = {(await at.answer(limit=100)).body for _ in range(3)}
        assert (len(bodies), at.rig.store.reads, at.rig.store.printed) == (1, 1, 1)
        assert opens(await at.answer(limit=50))[0] == CLOSED_MS - 50 * MINUTE_MS
        assert at.rig.store.reads == 1


async def test_only_what_the_tail_lacks_is_read_and_from_then_on_it_has_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS - 2 * MINUTE_MS))
        for back in (3, 2, 1):  # the last two are not committed yet
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS - back * MINUTE_MS))
        query = KlineQuery(BTC, None, None, 100, True)
        assert [(await at.query.answer(query)).body for _ in range(2)] == [at.oracle(query)] * 2
        assert (at.rig.store.reads, at.rig.store.printed, at.rig.tail.rows) == (1, 1, 100)


@pytest.mark.parametrize("limit", [20, 100])
async def test_a_row_that_is_replaced_while_the_database_prints_is_served_as_it_is_now(
    tmp_path: Path, limit: int
) -> None:
    async with desk(tmp_path) as at:
        span = Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS)
        await at.hold(BTC, span)
        await at.answer(limit=10)  # creates a tail
        changed = minute("BTCUSDT", CLOSED_MS - 15 * MINUTE_MS)._replace(trades=424_242)
        one = Span(changed.open_ms, changed.open_ms + MINUTE_MS)
        at.rig.store.meanwhile = lambda: at.rig.committer.commit([Batch(BTC, Source.REST, Spans([one]), [changed])])
        for _ in range(2):
            rows = orjson.loads((await at.answer(limit=limit)).body)
            assert [row[8] for row in rows if row[0] == changed.open_ms] == [424_242]
            assert len(rows) == limit


async def test_the_first_kline_of_the_tail_joins_without_seam_or_double(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 30 * MINUTE_MS, CLOSED_MS - 3 * MINUTE_MS))
        for back in range(5, 0, -1):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS - back * MINUTE_MS))
        at.rig.tail.set_live(BTC, M1.grid, Live(minute("BTCUSDT", CLOSED_MS), NOW_MS, from_socket=True))
        answer = await at.answer(limit=31, only_final=False)
        assert opens(answer) == list(M1.grid.opens(CLOSED_MS - 30 * MINUTE_MS, CLOSED_MS + 1))
        await turn()
        assert at.rig.exchange.asked == []


async def test_while_nobody_knows_what_is_listed_no_symbol_is_called_invalid(tmp_path: Path) -> None:
    """Found by killing nodes: one that had not read any list yet denied a symbol that is traded."""
    async with desk(tmp_path) as at:
        assert at.query.listed("nosuchusdt") is None
        at.rig.symbols.listings = {}
        with pytest.raises(BinanceError) as caught:
            at.query.listed("NOSUCHUSDT")
        assert caught.value.status == 503


async def test_a_tail_that_is_dropped_while_the_exchange_is_asked_is_neither_served_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS))
        await at.answer()
        tails, ask = at.rig.tail, at.upstream.klines
        dropped: list[SeriesTail | None] = []

        async def drop_first(series: Series, grid: Grid, span: Span | None, limit: int) -> Sequence[Row]:
            dropped.append(tails.get(series))
            tails.forget(series)
            return await ask(series, grid, span, limit)

        monkeypatch.setattr(at.upstream, "klines", drop_first)
        before = at.rig.store.reads
        assert (await at.answer(only_final=False)).is_live
        assert dropped[0] is not None
        assert at.rig.store.reads > before
        assert dropped[0] not in tails._plain
