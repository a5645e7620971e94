"""Answers are complete and equal to the exchange's, or they are an error."""

import dataclasses
import random
from dataclasses import replace
from pathlib import Path

import pytest

from app.binance.error_body import BinanceError
from app.domain.interval import D3, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.listing import Listing
from app.domain.reason import Reason
from app.domain.series import Series
from app.domain.span import Span
from app.holding.tail import Live
from app.kinds.klines import KLINES
from app.ports.errors import StandDown, UpstreamError, UpstreamGarbage, UpstreamRejected
from app.querying.answer import Answer, KlineQuery
from tests.fakes import ANCHOR_MS, BTC, NOW_MS, Asked, listing, minute, true_grid, unavailable
from tests.querying.query_desk import CLOSED_MS, DAYS, HOURS, Asking, desk, opens, random_query, refused, scatter


@pytest.mark.parametrize("read_through", [True, False])
@pytest.mark.parametrize("is_writer", [True, False])
async def test_every_answer_is_the_exchanges_own_or_an_error(
    tmp_path: Path, *, read_through: bool, is_writer: bool
) -> None:
    async with desk(tmp_path, read_through=read_through, is_writer=is_writer) as at:
        exact = errors = 0
        for seed in range(120):
            rng = random.Random(seed)
            series = Series(KLINES, f"S{seed}USDT", rng.choice([M1, M1, INTERVALS["1h"]]))
            at.bench.symbols.add(series.symbol)
            closed_ms = true_grid(series.interval).floor(CLOSED_MS)
            first_ms = at.rig.exchange.first_ms = closed_ms - rng.randrange(20, 60) * series.interval.grid.step_ms
            is_holed = await scatter(at, rng, series, first_ms, closed_ms)
            for number in range(12):
                query = random_query(rng, series, closed_ms)
                asked, context = len(at.rig.exchange.asked), f"seed {seed}, question {number}: {query}"
                answer = await at.answer_or_error(query)
                assert read_through or len(at.rig.exchange.asked) == asked, context
                if isinstance(answer, BinanceError):
                    assert answer.status == 503, context
                    assert answer.retry_after_s or answer.reason is Reason.NOT_HELD, context
                    assert is_holed or not read_through, f"{context}: the exchange would have answered"
                    errors += 1
                    continue
                assert answer.body == at.oracle(query), context
                exact += 1
        assert exact > 200
        assert errors > 20
        assert at.at_once > 20


@pytest.mark.parametrize("code", ["1m", "1h", "1M"])
async def test_what_the_tail_has_is_answered_at_once_and_as_otherwise(tmp_path: Path, code: str) -> None:
    series, rng = Series(KLINES, "BTCUSDT", INTERVALS[code]), random.Random(f"at once {code}")
    grid = series.interval.grid
    closed_ms = grid.floor(CLOSED_MS)
    first_ms = grid.shift(closed_ms, -70)
    async with desk(tmp_path, first_ms=first_ms) as at:
        for open_ms in grid.opens(first_ms, closed_ms + 1):  # stated: six years of months are three million minutes
            at.rig.exchange.stated[series, open_ms] = minute("BTCUSDT", open_ms)
        at.rig.symbols.listings["BTCUSDT"] = listing("BTCUSDT", first_ms)
        for number in range(600):
            if number % 60 == 0:
                at.rig.tail.clear()
                for open_ms in grid.opens(grid.shift(closed_ms, -rng.randrange(1, 70)), closed_ms):
                    at.rig.tail.append(series, grid, at.rig.exchange.kline(series, open_ms))
                if rng.random() < 0.7:
                    live = at.rig.exchange.kline(series, closed_ms)
                    at.rig.tail.set_live(series, grid, Live(live, at.rig.clock.ms, from_socket=True))
            query = random_query(rng, series, closed_ms)
            now_ms = at.rig.clock.ms
            if rng.random() < 0.5 or (soon := at.query.at_once(query, now_ms)) is None:
                await at.hold(series, Span(first_ms, closed_ms))
                answer = await at.answer_or_error(query)
                assert isinstance(answer, Answer)
            else:
                answer = soon
            assert answer.body == at.oracle(query), f"{number}: {query}"
        assert at.at_once > 60


async def test_what_is_known_is_answered_without_asking(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.rig.exchange.error = unavailable()
        assert opens(await at.answer(limit=50)) == list(M1.grid.opens(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, limit=3)) == [
            CLOSED_MS - back * MINUTE_MS for back in (50, 49, 48)
        ], "the first three, not the last three"
        assert at.rig.exchange.asked == []


@pytest.mark.parametrize("allow_partial", [False, True])
async def test_nobody_is_answered_while_it_is_not_known_whose_klines_are_held(
    tmp_path: Path, *, allow_partial: bool
) -> None:
    """No answer comes from the tail or the store, not even a part: the name may belong to another coin by now."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 20 * MINUTE_MS, CLOSED_MS))
        query = KlineQuery(BTC, None, None, 5, True, allow_partial)
        assert not isinstance(await at.answer_or_error(query), BinanceError)
        listed = Listing.of(listing("BTCUSDT"))
        at.rig.holdings.set_listings([listed.doubted()])
        assert at.query.at_once(query, at.rig.clock.ms) is None
        answer = await at.answer_or_error(query)
        assert isinstance(answer, BinanceError)
        assert (answer.status, bool(answer.retry_after_s)) == (503, True)
        at.rig.holdings.set_listings([listed])
        assert not isinstance(await at.answer_or_error(query), BinanceError)


async def test_the_newest_klines_reach_back_over_a_hole_that_is_proven(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - 3 * MINUTE_MS))
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        answer = await at.answer(limit=5)
        assert opens(answer) == [CLOSED_MS - back * MINUTE_MS for back in (6, 5, 4, 2, 1)]
        assert answer.touches.start_ms <= CLOSED_MS - 6 * MINUTE_MS, "a repair of any row of it drops the page"


@pytest.mark.parametrize("lost", [2, 5, 9])
async def test_an_answer_of_the_exchange_that_lacks_klines_is_not_passed_on(tmp_path: Path, lost: int) -> None:
    """2 and 9: beside held klines; 5: between klines of the answer."""
    async with desk(tmp_path) as at:
        await at.hold(
            BTC, Span(CLOSED_MS - 40 * MINUTE_MS, CLOSED_MS - 9 * MINUTE_MS), Span(CLOSED_MS - MINUTE_MS, CLOSED_MS)
        )
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - lost * MINUTE_MS))
        reaching: list[Asking] = [{"limit": 15}, {"start_ms": CLOSED_MS - 20 * MINUTE_MS, "limit": 19}]
        for asked in reaching:
            assert (await refused(at, **asked)).status == 503
        at.rig.exchange.lacking.clear()
        assert len(opens(await at.answer(limit=15))) == 15


@pytest.mark.parametrize("asked", [{"limit": 50}, {"start_ms": CLOSED_MS - 45 * MINUTE_MS, "limit": 15}])
async def test_of_a_delisted_symbol_too_what_it_had_until_its_delivery_must_be_there(
    tmp_path: Path, asked: Asking
) -> None:
    """Found by the simulation: REST omitted the first rows, and again when it was asked for any earlier ones."""
    async with desk(tmp_path, is_writer=False) as at:  # a reader, which proves no absence
        gone = replace(listing("BTCUSDT", status="SETTLING"), delivery_ms=CLOSED_MS - 30 * MINUTE_MS)
        at.rig.exchange.symbols = [gone, listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        at.rig.exchange.first_ms = CLOSED_MS - 40 * MINUTE_MS
        end_ms = CLOSED_MS - 36 * MINUTE_MS
        for wanted in (asked, {"end_ms": end_ms, **asked}):
            assert (await refused(at, **wanted)).status == 503
        at.rig.exchange.first_ms = 0
        assert len(opens(await at.answer(**asked))) == asked["limit"]


@pytest.mark.parametrize("asked", [{"limit": 2}, {"limit": 3, "start_ms": 0}])
async def test_that_a_new_symbol_begins_so_late_is_asked_in_another_way(tmp_path: Path, asked: Asking) -> None:
    """Found by the simulation: an answer that omitted the first day of a symbol listed the day before was believed."""
    async with desk(tmp_path, is_writer=False) as at:
        exchange = at.rig.exchange
        listed_ms = CLOSED_MS - 54 * HOUR_MS
        exchange.symbols = [listing("BTCUSDT", listed_ms), listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        exchange.first_ms = listed_ms
        first = DAYS, DAYS.interval.grid.floor(listed_ms)
        await at.hold(DAYS, Span(first[1] + DAY_MS, first[1] + 2 * DAY_MS))

        async def lack_it_once(_: Asked) -> None:
            (exchange.lacking.add if len(exchange.asked) == 1 else exchange.lacking.discard)(first)

        exchange.gate = lack_it_once
        assert (await refused(at, series=DAYS, **asked)).status == 503
        assert [int(each) for each in opens(await at.answer(DAYS, **asked))] == [first[1], first[1] + DAY_MS]


@pytest.mark.parametrize("asked", [{"limit": 15}, {"start_ms": CLOSED_MS - 15 * MINUTE_MS, "limit": 15}])
async def test_klines_that_are_held_do_not_excuse_their_absence_from_an_answer_of_the_exchange(
    tmp_path: Path, asked: Asking
) -> None:
    """Found by the simulation: a 200 with a silent hole, where REST had omitted klines that the store held."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 12 * MINUTE_MS, CLOSED_MS - 4 * MINUTE_MS))
        at.rig.exchange.lacking.update((BTC, CLOSED_MS - back * MINUTE_MS) for back in (8, 7))
        known = at.rig.holdings.ledger(BTC).known
        for _ in range(3):
            assert (await refused(at, **asked)).status == 503
            at.rig.clock.ms += 3_000
        assert at.rig.holdings.ledger(BTC).known == known, "a refused answer changes no ledger"
        at.rig.exchange.lacking.clear()
        assert len(opens(await at.answer(limit=15))) == 15


@pytest.mark.parametrize("asked", [{"limit": 3}, {"limit": 1, "start_ms": CLOSED_MS}, {"only_final": False}])
async def test_a_denial_that_what_is_held_refutes_is_not_believed(tmp_path: Path, asked: Asking) -> None:
    """Found by the simulation: 200 [] for a symbol that is being delisted and whose minutes were in the store."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 90 * MINUTE_MS, CLOSED_MS - 30 * MINUTE_MS))
        settling = dataclasses.replace(at.rig.symbols.listings["BTCUSDT"], status="SETTLING")
        at.rig.symbols.listings["BTCUSDT"] = settling
        at.rig.exchange.last_ms = 0
        at.rig.clock.ms += 5 * MINUTE_MS
        for series in (BTC,) if "start_ms" in asked else (BTC, HOURS):
            assert (await refused(at, series=series, **asked)).status == 503


@pytest.mark.parametrize("has_minutes", [True, False])
async def test_an_exchange_that_denies_every_kline_of_a_symbol_that_trades_is_not_believed(
    tmp_path: Path, *, has_minutes: bool
) -> None:
    """Found by the simulation: 200 [] when REST answered [] to every request, including the control requests."""
    async with desk(tmp_path) as at:
        if has_minutes:  # the symbol is a day old: only its minutes prove that it traded
            young = dataclasses.replace(at.rig.symbols.listings["BTCUSDT"], onboard_ms=CLOSED_MS - 9 * HOUR_MS)
            at.rig.symbols.listings["BTCUSDT"] = young
            await at.hold(BTC, Span(CLOSED_MS - 8 * HOUR_MS, CLOSED_MS))
        at.rig.exchange.last_ms = 0
        whole: list[Asking] = [
            {"limit": 3},
            {"limit": 1, "start_ms": CLOSED_MS - 4 * HOUR_MS},
            {"limit": 1, "only_final": False},
        ]
        for asked in whole:
            assert (await refused(at, series=HOURS, **asked)).status == 503
        assert (await refused(at, series=Series(KLINES, "BTCUSDT", INTERVALS["3d"]), limit=1)).status == 503


async def test_an_exchange_that_is_kline_ahead_never_answers_beyond_the_end_asked_for(tmp_path: Path) -> None:
    """Our clock is behind: at the exchange the kline in progress has closed and the next one has opened."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))

        async def gate(_asked: Asked) -> None:
            at.rig.clock.ms = NOW_MS + MINUTE_MS

        at.rig.exchange.gate = gate
        answer = await at.answer(end_ms=CLOSED_MS, limit=3, only_final=False)
        assert opens(answer) == [CLOSED_MS - 2 * MINUTE_MS, CLOSED_MS - MINUTE_MS, CLOSED_MS]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_kline_that_closes_meanwhile_makes_no_answer_longer(tmp_path: Path, limit: int) -> None:
    """Found by the simulation: two klines for limit=1 in the second after a close."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))
        assert len(opens(await at.answer(limit=5))) == 5, "now the tail has them"

        async def gate(_asked: Asked) -> None:
            at.rig.clock.ms = NOW_MS + MINUTE_MS

        at.rig.exchange.gate = gate
        answer = await at.answer(limit=limit, only_final=False)
        assert opens(answer) == [CLOSED_MS - back * MINUTE_MS for back in range(limit - 2, -2, -1)]


async def test_an_exchange_that_is_two_klines_ahead_leaves_no_hole(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))

        async def gate(_asked: Asked) -> None:
            at.rig.clock.ms = NOW_MS + 2 * MINUTE_MS

        at.rig.exchange.gate = gate
        assert (await refused(at, limit=5, only_final=False)).status == 503


async def test_an_unanchored_series_is_answered_on_the_exchanges_grid(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        series = Series(KLINES, "BTCUSDT", D3)
        answer = await at.answer(series, limit=4)
        assert [open_ms % (3 * 24 * HOUR_MS) for open_ms in opens(answer)] == [ANCHOR_MS] * 4


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after_s"),
    [
        (StandDown(NOW_MS + 90_500, "banned"), 503, -1001, 91),
        (StandDown(NOW_MS - 5, "over"), 503, -1001, 1),
        (StandDown(NOW_MS + 3 * 24 * HOUR_MS, "banned"), 503, -1001, 3600),
        (unavailable(), 503, -1001, 5),
        (UpstreamGarbage("garbage"), 503, -1001, 5),
        (UpstreamRejected(400, -1121, "Invalid symbol."), 400, -1121, None),
        (UpstreamRejected(403, 0, "blocked"), 503, -1001, 5),
    ],
)
async def test_what_cannot_be_whole_is_an_error_in_binances_shape(
    tmp_path: Path, error: UpstreamError, status: int, code: int, retry_after_s: int | None
) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.error = error
        caught = await refused(at)
        assert (caught.status, caught.code, caught.retry_after_s) == (status, code, retry_after_s)


async def test_during_a_stand_down_what_is_held_is_served(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 20 * MINUTE_MS, CLOSED_MS))
        at.rig.exchange.error = StandDown(NOW_MS + HOUR_MS, "banned")
        assert len(opens(await at.answer(limit=20))) == 20
        assert (await refused(at, limit=21)).retry_after_s == 3600


async def test_a_store_that_cannot_be_read_is_an_error_and_the_tail_is_served(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for each in M1.grid.opens(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
        assert len(opens(await at.answer(limit=9))) == 9
        assert at.rig.store.reads == 0


async def test_which_symbols_are_known(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        assert at.query.symbol("btcusdt") == "BTCUSDT"
        assert at.query.symbol("NOSUCHUSDT") is None
        assert at.query.symbol("BTCU\u017fDT") is at.query.symbol("btcu\u017fdt") is None, "a long s is no S"
        gone = Series(KLINES, "GONEUSDT", M1)
        await at.hold(gone, Span(CLOSED_MS - MINUTE_MS, CLOSED_MS))
        assert at.query.symbol("GONEUSDT") == "GONEUSDT", "delisted, but held"
        at.rig.exchange.symbols.append(listing("币安人生USDT"))
        await at.rig.symbols.refresh()
        assert at.query.symbol("币安人生usdt") == "币安人生USDT"
