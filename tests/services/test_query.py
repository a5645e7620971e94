"""Answers are whole and the exchange's own, or they are an error; and one question upstream serves all who ask it."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from app.domain.interval import D3, DAY_MS, HOUR_MS, INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.span import Span, Spans
from app.ports import Batch, Series, StandDown, UpstreamError, UpstreamGarbage, UpstreamRejected
from app.services.answer import END_OF_TIME_MS, Answer, KlineQuery, Shortfall
from app.services.in_progress import LIVE_AGE_MS_MAX, InProgress
from app.services.query import QueryService
from app.services.read_through import ReadThrough
from app.services.refusal import RETRY_AFTER_S
from app.services.rolling import Rolling
from app.services.tail import Live
from app.services.tail_cut import CLOSING_PAGE_MS, LIVE_PAGE_MS
from app.services.wish import CLOSE_GRACE_MS
from app.wire.error_body import BinanceError
from tests.services.fakes import (
    ANCHOR_MS,
    BTC,
    NOW_MS,
    Asked,
    Rig,
    encoded,
    listing,
    minute,
    rig,
    true_grid,
    turn,
    unavailable,
)
from tests.services.test_reconcile import Bench

HOURS = Series("BTCUSDT", INTERVALS["1h"])
DAYS = Series("BTCUSDT", INTERVALS["1d"])
CLOSED_MS = NOW_MS - 30_000


class Desk:
    """A query service on a rig; `bench` keeps what is read through, as the writer does."""

    def __init__(self, made: Rig, *, read_through: bool = True, is_writer: bool = True) -> None:
        self.rig = made
        self.at_once = 0
        self.rolling = Rolling(list(INTERVALS.values()))
        self.upstream = ReadThrough(made.clock, made.exchange, made.symbols, made.holdings, is_allowed=read_through)
        self.in_progress = InProgress(made.clock, self.upstream, made.tail, self.rolling)
        self.query = QueryService(
            made.clock,
            made.store,
            self.upstream,
            made.symbols,
            made.holdings,
            made.tail,
            in_progress=self.in_progress,
        )
        self.bench = Bench(made, codes=tuple(INTERVALS), days=400)
        if is_writer:
            self.upstream.keep = self.bench.filler.keep_read

    async def hold(self, series: Series, *spans: Span, source: Source = Source.REST) -> None:
        """Put the exchange's klines of `spans` into the store."""
        wanted = Spans(spans)
        rows = [
            self.rig.exchange.kline(series, each) for span in wanted for each in self.rig.exchange.opens(series, span)
        ]
        grid = true_grid(series.interval)
        made = Spans(Span(row.open_ms, grid.shift(row.open_ms, 1)) for row in rows)
        batches = [Batch(series, source, made, rows)] if rows else []
        if absent := wanted - made:
            batches.append(Batch(series, Source.ABSENT, absent, []))
        await self.rig.committer.commit(batches)

    def oracle(self, query: KlineQuery) -> bytes:
        """What Binance answers (binance-facts section 3); closed klines alone when those are asked for."""
        series, now_ms = query.series, self.rig.clock.ms
        grid = true_grid(series.interval)
        upto_ms = grid.floor(now_ms - CLOSE_GRACE_MS) if query.only_final else now_ms + 1
        end_ms = upto_ms if query.end_ms is None else min(upto_ms, query.end_ms + 1)
        opens = self.rig.exchange.opens(series, Span(query.start_ms or 0, end_ms)) if end_ms > 0 else []
        opens = opens[-query.limit :] if query.start_ms is None else opens[: query.limit]
        return encoded(series, [self.rig.exchange.kline(series, each) for each in opens])

    async def answer_or_error(self, query: KlineQuery) -> Answer | BinanceError:
        """The answer; what can be answered at once is the same."""
        now_ms = self.rig.clock.ms
        soon, asked = self.query.at_once(query, now_ms), len(self.rig.exchange.asked)
        found: Answer | BinanceError
        try:
            found = await self.query.answer(query)
        except BinanceError as error:
            found = error
        if soon is not None:
            self.at_once += 1
            assert (soon, self.rig.exchange.asked[asked:]) == (found, []), query
        return found

    async def answer(
        self,
        series: Series = BTC,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 5,
        only_final: bool = True,
        allow_partial: bool = False,
    ) -> Answer:
        found = await self.answer_or_error(KlineQuery(series, start_ms, end_ms, limit, only_final, allow_partial))
        if isinstance(found, BinanceError):
            raise found
        return found


@asynccontextmanager
async def desk(
    folder: Path, *, now_ms: int = NOW_MS, first_ms: int = CLOSED_MS - 400 * HOUR_MS, **options: bool
) -> AsyncIterator[Desk]:
    async with rig(folder, now_ms=now_ms, first_ms=first_ms) as made:
        await made.symbols.refresh()
        yield Desk(made, **options)


def opens(answer: Answer) -> list[int]:
    return [row[0] for row in orjson.loads(answer.body)]


async def refused(answering: Desk, **asked: object) -> BinanceError:
    with pytest.raises(BinanceError) as caught:
        await answering.answer(**asked)  # type: ignore[arg-type]
    return caught.value


# --- whole or an error -------------------------------------------------------------------------------------------


async def scatter(at: Desk, rng: random.Random, series: Series, first_ms: int, closed_ms: int) -> bool:
    """Hold, prove absent and leave out at random; returns whether a question can meet an unproven hole."""
    grid, exchange = true_grid(series.interval), at.rig.exchange
    times = list(grid.opens(grid.shift(grid.ceil(first_ms), -12), closed_ms))
    is_holed = rng.random() < 0.4
    if is_holed:
        exchange.lacking.update((series, each) for each in rng.sample(times[:-1], rng.randrange(1, 6)))
    for _ in range(rng.randrange(0, 5)):
        start, length = rng.randrange(len(times)), rng.randrange(1, 40)
        await at.hold(series, Span(times[start], grid.shift(times[min(start + length, len(times)) - 1], 1)))
    if rng.random() < 0.5:
        await at.rig.committer.commit([Batch(series, Source.ABSENT, Spans([Span(0, grid.floor(first_ms))]), [])])
    if rng.random() < 0.5:  # what live ingest took in and did not commit yet
        for each in times[-rng.randrange(1, 9) :]:
            if (series, each) not in exchange.lacking and each >= first_ms:
                at.rig.tail.append(series, grid, exchange.kline(series, each))
    return is_holed


def random_query(rng: random.Random, series: Series, closed_ms: int) -> KlineQuery:
    step_ms = series.interval.grid.step_ms

    def moment() -> int | None:
        if rng.random() < 0.35:
            return None
        around_ms = closed_ms - rng.randrange(-2, 75) * step_ms
        return rng.choice([around_ms, around_ms + 1, around_ms - 1, around_ms + step_ms // 2, 0, closed_ms * 2])

    start_ms, end_ms = moment(), moment()
    if start_ms is not None and end_ms is not None and end_ms < start_ms:
        start_ms, end_ms = end_ms, start_ms
    return KlineQuery(series, start_ms, end_ms, rng.choice([1, 2, 5, 17, 60, 1500]), rng.random() < 0.5)


@pytest.mark.parametrize("read_through", [True, False])
@pytest.mark.parametrize("is_writer", [True, False])
async def test_every_answer_is_the_exchanges_own_or_an_error(
    tmp_path: Path, *, read_through: bool, is_writer: bool
) -> None:
    async with desk(tmp_path, read_through=read_through, is_writer=is_writer) as at:
        exact = errors = 0
        for seed in range(120):
            rng = random.Random(seed)
            series = Series(f"S{seed}USDT", rng.choice([M1, M1, INTERVALS["1h"]]))
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
                    assert (answer.status, bool(answer.retry_after_s)) == (503, True), context
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
    series, rng = Series("BTCUSDT", INTERVALS[code]), random.Random(f"at once {code}")
    grid = series.interval.grid
    closed_ms = grid.floor(CLOSED_MS)
    first_ms = grid.shift(closed_ms, -70)
    async with desk(tmp_path, first_ms=first_ms) as at:
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


async def test_the_newest_klines_reach_back_over_a_hole_that_is_proven(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - 3 * MINUTE_MS))
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        answer = await at.answer(limit=5)
        assert opens(answer) == [CLOSED_MS - back * MINUTE_MS for back in (6, 5, 4, 2, 1)]
        assert answer.touches.start_ms <= CLOSED_MS - 6 * MINUTE_MS, "a repair of any row of it drops the page"


@pytest.mark.parametrize("lost", [2, 5, 9])
async def test_an_answer_of_the_exchange_that_lacks_klines_is_not_passed_on(tmp_path: Path, lost: int) -> None:
    """2 and 9: next to what is held; 5: between what it gave."""
    async with desk(tmp_path) as at:
        await at.hold(
            BTC, Span(CLOSED_MS - 40 * MINUTE_MS, CLOSED_MS - 9 * MINUTE_MS), Span(CLOSED_MS - MINUTE_MS, CLOSED_MS)
        )
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - lost * MINUTE_MS))
        for asked in ({"limit": 15}, {"start_ms": CLOSED_MS - 20 * MINUTE_MS, "limit": 19}):
            assert (await refused(at, **asked)).status == 503
        at.rig.exchange.lacking.clear()
        assert len(opens(await at.answer(limit=15))) == 15


@pytest.mark.parametrize("asked", [{"limit": 50}, {"start_ms": CLOSED_MS - 45 * MINUTE_MS, "limit": 15}])
async def test_of_a_delisted_symbol_too_what_it_had_until_its_delivery_must_be_there(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    """Found by the simulation: REST left the first rows out, and once more when it was asked for any before them."""
    async with desk(tmp_path, is_writer=False) as at:  # which proves no absence
        gone = replace(listing("BTCUSDT", status="SETTLING"), delivery_ms=CLOSED_MS - 30 * MINUTE_MS)
        at.rig.exchange.symbols = [gone, listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        at.rig.exchange.first_ms = CLOSED_MS - 40 * MINUTE_MS
        end_ms = CLOSED_MS - 36 * MINUTE_MS
        for wanted in (asked, {"end_ms": end_ms, **asked}):
            assert (await refused(at, **wanted)).status == 503
        at.rig.exchange.first_ms = 0
        assert len(opens(await at.answer(**asked))) == asked["limit"]  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"limit": 2}, {"limit": 3, "start_ms": 0}])
async def test_that_a_new_symbol_begins_so_late_is_asked_in_another_way(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    """Found by the simulation: one answer that lacked the first day of a symbol listed the day before was believed."""
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
        assert [int(each) for each in opens(await at.answer(DAYS, **asked))] == [first[1], first[1] + DAY_MS]  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"limit": 15}, {"start_ms": CLOSED_MS - 15 * MINUTE_MS, "limit": 15}])
async def test_klines_that_are_held_do_not_excuse_their_absence_from_an_answer_of_the_exchange(
    tmp_path: Path, asked: dict[str, object]
) -> None:
    """Found by the simulation: a 200 with a silent hole, where REST had left out what the store had."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 12 * MINUTE_MS, CLOSED_MS - 4 * MINUTE_MS))
        at.rig.exchange.lacking.update((BTC, CLOSED_MS - back * MINUTE_MS) for back in (8, 7))
        assert (await refused(at, **asked)).status == 503
        assert len(opens(await at.answer(limit=15))) == 15, "what REST gave was kept all the same"


@pytest.mark.parametrize("asked", [{"limit": 3}, {"limit": 1, "start_ms": CLOSED_MS}, {"only_final": False}])
async def test_a_denial_that_what_is_held_refutes_is_not_believed(tmp_path: Path, asked: dict[str, object]) -> None:
    """Found by the simulation: 200 [] for a symbol on its way out, whose minutes were in the store."""
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
    """Found by the simulation: 200 [] when REST answered [] to every question, control questions included."""
    async with desk(tmp_path) as at:
        if has_minutes:  # the symbol is a day old: only the minutes prove that there was trading
            young = dataclasses.replace(at.rig.symbols.listings["BTCUSDT"], onboard_ms=CLOSED_MS - 9 * HOUR_MS)
            at.rig.symbols.listings["BTCUSDT"] = young
            await at.hold(BTC, Span(CLOSED_MS - 8 * HOUR_MS, CLOSED_MS))
        at.rig.exchange.last_ms = 0
        whole: list[dict[str, object]] = [
            {"limit": 3},
            {"limit": 1, "start_ms": CLOSED_MS - 4 * HOUR_MS},
            {"limit": 1, "only_final": False},
        ]
        for asked in whole:
            assert (await refused(at, series=HOURS, **asked)).status == 503
        assert (await refused(at, series=Series("BTCUSDT", INTERVALS["3d"]), limit=1)).status == 503


async def test_an_exchange_that_is_kline_ahead_never_answers_beyond_the_end_asked_for(tmp_path: Path) -> None:
    """Our clock lags: the kline in progress has closed over there and a new one has begun."""
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
        series = Series("BTCUSDT", D3)
        answer = await at.answer(series, limit=4)
        assert [open_ms % (3 * 24 * HOUR_MS) for open_ms in opens(answer)] == [ANCHOR_MS] * 4


# --- the kline in progress ---------------------------------------------------------------------------------------


async def test_the_live_kline_of_an_hour_has_every_closed_minute(tmp_path: Path) -> None:
    """REST brought a minute whose closing frame was lost: roll-up does not have it."""
    async with desk(tmp_path) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS - MINUTE_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", CLOSED_MS - MINUTE_MS))
        answer = await at.answer(HOURS, limit=1, only_final=False)
        assert answer.body == at.oracle(KlineQuery(HOURS, None, None, 1, only_final=False))
        assert len(at.rig.exchange.asked) == 1


async def test_the_live_kline_of_an_hour_does_not_stand_still_when_no_frames_come(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.clock.ms = CLOSED_MS + LIVE_AGE_MS_MAX
        await at.answer(HOURS, limit=1, only_final=False)
        assert at.rig.exchange.asked == []
        at.rig.clock.ms += 1
        await at.answer(HOURS, limit=1, only_final=False)
        assert len(at.rig.exchange.asked) == 1


async def test_a_live_kline_asked_for_by_rest_is_asked_for_again_when_it_is_old(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))
        for _ in range(3):
            await at.answer(only_final=False)
        assert len(at.rig.exchange.asked) == 1
        at.rig.clock.ms += LIVE_AGE_MS_MAX + 1
        await at.answer(only_final=False)
        assert len(at.rig.exchange.asked) == 2


@pytest.mark.parametrize("series", [BTC, HOURS])
async def test_a_live_kline_is_no_younger_than_the_last_frame_of_its_socket(tmp_path: Path, series: Series) -> None:
    """A socket fell silent in the middle of a minute: what it said last is not what is true now."""
    async with desk(tmp_path, now_ms=CLOSED_MS + 20_000) as at:
        for each in M1.grid.opens(HOURS.interval.grid.floor(NOW_MS), CLOSED_MS):
            at.rig.tail.append(BTC, M1.grid, minute("BTCUSDT", each))
            list(at.rolling.take("BTCUSDT", minute("BTCUSDT", each)))
        at.rig.tail.set_live(BTC, M1.grid, Live(minute("BTCUSDT", CLOSED_MS), CLOSED_MS + 5_000, from_socket=True))
        heard_ms: int | None = CLOSED_MS + 20_000 - LIVE_AGE_MS_MAX
        at.in_progress.heard_ms = lambda asked: heard_ms if asked == BTC else None
        await at.answer(series, limit=1, only_final=False)
        assert at.rig.exchange.asked == [], "its symbol is quiet, but others on the socket are not"
        heard_ms = CLOSED_MS + 20_000 - LIVE_AGE_MS_MAX - 1
        await at.answer(series, limit=1, only_final=False)
        assert len(at.rig.exchange.asked) == 1


# --- no answer is stale ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_writer", [True, False])
async def test_when_nobody_writes_the_newest_klines_are_read_through_or_refused(
    tmp_path: Path, *, is_writer: bool
) -> None:
    async with desk(tmp_path, is_writer=is_writer) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.rig.clock.ms = NOW_MS + 5 * MINUTE_MS
        for start_ms in (None, CLOSED_MS - 2 * MINUTE_MS):
            assert opens(await at.answer(start_ms=start_ms, limit=7))[-1] == CLOSED_MS + 4 * MINUTE_MS
        at.rig.clock.ms += MINUTE_MS
        at.rig.exchange.error = unavailable()
        for start_ms in (None, CLOSED_MS - 2 * MINUTE_MS):
            assert (await refused(at, start_ms=start_ms, limit=100)).retry_after_s == RETRY_AFTER_S
        old = await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, limit=40)
        assert len(opens(old)) == 40, "the past is not stale"


@pytest.mark.parametrize("held", [0, 5])
@pytest.mark.parametrize("start_ms", [None, CLOSED_MS - 9 * MINUTE_MS])
async def test_an_answer_of_the_exchange_that_ends_early_is_not_taken_for_the_newest(
    tmp_path: Path, held: int, start_ms: int | None
) -> None:
    async with desk(tmp_path) as at:
        if held:
            await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS - (9 - held) * MINUTE_MS))
        at.rig.exchange.lacking.update({(BTC, CLOSED_MS - MINUTE_MS), (BTC, CLOSED_MS - 2 * MINUTE_MS)})
        assert (await refused(at, start_ms=start_ms, limit=9)).status == 503, (
            "it has a later kline, the one in progress"
        )
        at.rig.exchange.lacking.clear()
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        assert (await refused(at, start_ms=start_ms, limit=9)).status == 503, (
            "the symbol trades, and a later kline was due"
        )
        assert (await refused(at, start_ms=start_ms, limit=9, only_final=False)).status == 503
        at.rig.exchange.symbols = [listing("BTCUSDT", status="SETTLING"), listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        assert opens(await at.answer(start_ms=start_ms, limit=9))[-1] == CLOSED_MS - 3 * MINUTE_MS, (
            "delisted: that is the end"
        )


async def test_a_proof_that_there_is_nothing_newer_becomes_stale(tmp_path: Path) -> None:
    """The exchange answered for half an hour without klines, which was recorded; that says nothing about now."""
    async with desk(tmp_path) as at:
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 3 * MINUTE_MS, "the exchange still says so"
        assert len(at.rig.exchange.asked) == 1
        at.rig.exchange.error = unavailable()
        assert (await refused(at)).status == 503
        at.rig.exchange.error, at.rig.exchange.last_ms = None, 1 << 60
        assert (await refused(at)).status == 503, "the exchange has them now"
        assert opens(await at.answer())[-1] == CLOSED_MS - MINUTE_MS, "and they were kept"


async def test_of_a_delisted_symbol_nothing_newer_is_asked_for(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.last_ms = CLOSED_MS - 9 * MINUTE_MS
        at.rig.exchange.symbols = [listing("BTCUSDT", status="SETTLING"), listing("ETHUSDT")]
        await at.rig.symbols.refresh()
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 10 * MINUTE_MS
        assert at.rig.exchange.asked == []


async def test_a_young_proof_of_absence_needs_no_question(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.lacking.add((BTC, CLOSED_MS - MINUTE_MS))
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        assert opens(await at.answer())[-1] == CLOSED_MS - 2 * MINUTE_MS
        assert at.rig.exchange.asked == []


async def test_by_a_clock_that_nobody_confirmed_no_kline_is_the_newest(tmp_path: Path) -> None:
    """The machine's clock lags by minutes: what is held seems to be up to date."""
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        is_known = False
        at.query.is_time_known = lambda: is_known
        at.rig.exchange.error = unavailable()
        assert (await refused(at)).retry_after_s == RETRY_AFTER_S
        assert len(opens(await at.answer(end_ms=CLOSED_MS - 1))) == 5, "up to a time that is held"
        assert len(opens(await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, limit=50))) == 50

        async def tell_the_time(_asked: Asked) -> None:
            nonlocal is_known
            is_known = True
            at.rig.clock.ms = NOW_MS + 7 * MINUTE_MS  # every answer of the exchange is dated

        at.rig.exchange.error, at.rig.exchange.gate = None, tell_the_time
        assert opens(await at.answer())[-1] == CLOSED_MS + 6 * MINUTE_MS


async def test_an_answer_whose_read_through_put_the_clock_right_is_made_anew(tmp_path: Path) -> None:
    """The clock was confirmed, and the machine stood still since: the first answer of the exchange says so."""
    async with desk(tmp_path) as at:

        async def tell_the_time(_asked: Asked) -> None:
            at.rig.clock.ms = max(at.rig.clock.ms, NOW_MS + 7 * MINUTE_MS)

        at.rig.exchange.gate = tell_the_time
        assert opens(await at.answer())[-1] == CLOSED_MS + 6 * MINUTE_MS
        assert len(at.rig.exchange.windows()) == 2


async def test_a_time_that_stays_unknown_is_asked_for_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.query.is_time_known = lambda: False
        assert (await refused(at)).status == 503
        assert len(at.rig.exchange.asked) == 1


# --- less than the whole -----------------------------------------------------------------------------------------


async def partial(at: Desk, **asked: object) -> tuple[list[int], Shortfall]:
    answer = await at.answer(allow_partial=True, **asked)  # type: ignore[arg-type]
    assert answer.shortfall is not None
    assert answer.valid_until_ms <= at.rig.clock.ms, "it is true only now"
    return opens(answer), answer.shortfall


async def test_whoever_allows_it_gets_what_is_held_and_is_told_what_is_missing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        start_ms = CLOSED_MS - 50 * MINUTE_MS
        hole, absent_ms = Span(start_ms + 10 * MINUTE_MS, start_ms + 20 * MINUTE_MS), start_ms + 5 * MINUTE_MS
        at.rig.exchange.lacking.add((BTC, absent_ms))
        await at.hold(BTC, Span(start_ms, hole.start_ms), Span(hole.end_ms, CLOSED_MS))
        whole = await at.answer(limit=30, allow_partial=True)
        assert (len(opens(whole)), whole.shortfall) == (30, None)
        at.rig.exchange.error = StandDown(NOW_MS + HOUR_MS, "banned")
        times = [each for each in M1.grid.opens(start_ms, CLOSED_MS) if not hole.start_ms <= each < hole.end_ms]
        times.remove(absent_ms)

        found, lacks = await partial(at, start_ms=start_ms, limit=15)
        assert found == times[:15]
        assert lacks == Shortfall(Span(start_ms, times[14] + MINUTE_MS), 15, 1, (hole,), 10, True)
        found, lacks = await partial(at, start_ms=start_ms, limit=1000)
        assert found == times
        assert lacks == Shortfall(Span(start_ms, CLOSED_MS), 39, 1, (hole,), 10, True)
        found, lacks = await partial(at, limit=35)
        assert found == times[-35:], "counted over what there is"
        assert lacks == Shortfall(Span(times[-35], CLOSED_MS), 35, 1, (hole,), 10, True)
        found, lacks = await partial(at, limit=60)
        assert found == times
        before = Span(CLOSED_MS - 60 * MINUTE_MS, start_ms)
        assert lacks == Shortfall(Span(before.start_ms, CLOSED_MS), 39, 1, (before, hole), 20, True)
        found, lacks = await partial(at, start_ms=hole.start_ms, end_ms=hole.end_ms - 1, limit=5)
        assert (found, lacks.missing, lacks.klines_missing) == ([], (hole,), 10)
        assert (await refused(at, limit=60)).retry_after_s == 3600


@pytest.mark.parametrize("is_writer", [True, False])
async def test_a_partial_answer_never_makes_old_klines_the_newest(tmp_path: Path, *, is_writer: bool) -> None:
    async with desk(tmp_path, is_writer=is_writer, read_through=False) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.rig.clock.ms = NOW_MS + 5 * MINUTE_MS
        found, lacks = await partial(at, limit=4)
        assert found == list(M1.grid.opens(CLOSED_MS - 4 * MINUTE_MS, CLOSED_MS))
        assert lacks.missing == (Span(CLOSED_MS, CLOSED_MS + 5 * MINUTE_MS),)
        found, lacks = await partial(at, limit=4, only_final=False)
        assert found[-1] == CLOSED_MS - MINUTE_MS
        assert lacks.missing == (Span(CLOSED_MS, CLOSED_MS + 6 * MINUTE_MS),), "the kline in progress as well"


async def test_a_partial_answer_by_an_unconfirmed_clock_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 50 * MINUTE_MS, CLOSED_MS))
        at.query.is_time_known = lambda: False
        at.rig.exchange.error = unavailable()
        found, lacks = await partial(at)
        assert (len(found), lacks.missing, lacks.is_newest_known) == (5, (), False)
        at.query.is_time_known = lambda: True
        at.rig.exchange.error = None
        at.rig.exchange.last_ms = CLOSED_MS - 2 * MINUTE_MS
        await at.rig.committer.commit(
            [Batch(BTC, Source.ABSENT, Spans([Span(CLOSED_MS, CLOSED_MS + 3 * MINUTE_MS)]), [])]
        )
        at.rig.clock.ms += 3 * MINUTE_MS
        at.rig.exchange.error = unavailable()
        _, lacks = await partial(at)
        assert not lacks.is_newest_known


async def test_a_partial_answer_ends_with_the_kline_in_progress_that_is_known(tmp_path: Path) -> None:
    async with desk(tmp_path, read_through=False) as at:
        await at.hold(BTC, Span(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS))
        at.rig.tail.set_live(BTC, M1.grid, Live(minute("BTCUSDT", CLOSED_MS), NOW_MS, from_socket=True))
        found, lacks = await partial(at, limit=20, only_final=False)
        assert found == list(M1.grid.opens(CLOSED_MS - 9 * MINUTE_MS, CLOSED_MS + 1))
        assert (lacks.held, lacks.klines_missing, lacks.window.end_ms) == (10, 10, CLOSED_MS + MINUTE_MS)


async def test_what_no_caller_can_allow(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.rig.exchange.error = UpstreamRejected(400, -1121, "Invalid symbol.")
        assert (await refused(at, allow_partial=True)).code == -1121
        at.rig.exchange.error = unavailable()
        error = await refused(at, series=Series("BTCUSDT", D3), allow_partial=True)
        assert error.status == 503, "without a grid nobody can say what is missing"


async def test_every_partial_answer_accounts_for_every_kline_of_its_window(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        partial_answers = whole_answers = 0
        for seed in range(60):
            rng = random.Random(seed)
            series = Series(f"P{seed}USDT", rng.choice([M1, INTERVALS["1h"]]))
            grid = true_grid(series.interval)
            closed_ms = grid.floor(CLOSED_MS)
            first_ms = at.rig.exchange.first_ms = closed_ms - rng.randrange(20, 60) * series.interval.grid.step_ms
            at.rig.exchange.error = None
            await scatter(at, rng, series, first_ms, closed_ms)
            at.rig.exchange.error = unavailable()
            for number in range(12):
                query = random_query(rng, series, closed_ms)._replace(allow_partial=True)
                context = f"seed {seed}, question {number}: {query}"
                answer = await at.query.answer(query)
                found, lacks = opens(answer), answer.shortfall
                assert found == sorted(set(found)), context
                assert len(found) <= query.limit, context
                if lacks is None:
                    assert answer.body == at.oracle(query), context
                    whole_answers += 1
                    continue
                partial_answers += 1
                klines = [at.rig.exchange.kline(series, each) for each in found]
                assert answer.body == encoded(series, klines), context
                assert all(lacks.window.start_ms <= each < lacks.window.end_ms for each in found), context
                assert not any(span.start_ms <= each < span.end_ms for span in lacks.missing for each in found), context
                assert lacks.klines_missing == sum(grid.count(*span) for span in lacks.missing), context
                total = grid.count(*lacks.window)
                assert lacks.held + lacks.absent + lacks.klines_missing == total, context
                assert lacks.held == len(found), context
        assert min(partial_answers, whole_answers) > 100


# --- one question for all ----------------------------------------------------------------------------------------


class Gate:
    """Holds requests until the test opens it."""

    def __init__(self, at: Desk) -> None:
        self.opened = asyncio.Event()
        self.entered = asyncio.Event()
        at.rig.exchange.gate = self

    async def __call__(self, _asked: Asked) -> None:
        self.entered.set()
        await self.opened.wait()


async def test_many_who_miss_the_same_share_one_request(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(50)]
            await gate.entered.wait()
            await at.rig.store.settled()
            gate.opened.set()
        assert len({task.result().body for task in tasks}) == 1
        assert len(at.rig.exchange.windows()) == 1


async def test_when_the_one_who_asked_goes_away_another_asks(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS))
            await gate.entered.wait()
            others = [group.create_task(at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(9)]
            await at.rig.store.settled()
            first.cancel()
            await at.rig.store.settled()
            gate.opened.set()
        assert all(len(opens(task.result())) == 5 for task in others)
        assert len(at.rig.exchange.windows()) == 2


async def test_when_all_go_away_at_once_nobody_asks_again(tmp_path: Path) -> None:
    """A shutdown cancels who asked and who waits; none may take the other's cancellation for its own."""
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(5)]
            await gate.entered.wait()
            await at.rig.store.settled()
            for task in tasks:
                task.cancel()
            await at.rig.store.settled()
            assert all(task.cancelled() for task in tasks)
            assert len(at.rig.exchange.windows()) == 1


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        at.rig.exchange.error = unavailable()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(refused(at, start_ms=CLOSED_MS - 9 * MINUTE_MS)) for _ in range(9)]
            await gate.entered.wait()
            await at.rig.store.settled()
            gate.opened.set()
        assert {task.result().status for task in tasks} == {503}
        assert len(at.rig.exchange.windows()) == 1
        at.rig.exchange.error = None
        assert len(opens(await at.answer(start_ms=CLOSED_MS - 9 * MINUTE_MS))) == 5


async def test_read_throughs_are_bounded(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        gate = Gate(at)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at.answer(start_ms=CLOSED_MS - back * MINUTE_MS)) for back in range(10, 74)]
            await gate.entered.wait()
            await at.rig.store.settled()
            assert len(at.rig.exchange.asked) == 64
            assert (await refused(at, start_ms=CLOSED_MS - 99 * MINUTE_MS)).status == 503
            gate.opened.set()
        assert all(opens(task.result()) for task in tasks)


# --- errors ------------------------------------------------------------------------------------------------------


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
        gone = Series("GONEUSDT", M1)
        await at.hold(gone, Span(CLOSED_MS - MINUTE_MS, CLOSED_MS))
        assert at.query.symbol("GONEUSDT") == "GONEUSDT", "delisted, but held"
        at.rig.exchange.symbols.append(listing("币安人生USDT"))
        await at.rig.symbols.refresh()
        assert at.query.symbol("币安人生usdt") == "币安人生USDT"


# --- how long an answer is true ----------------------------------------------------------------------------------


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
        assert answer.valid_until_ms == NOW_MS + LIVE_PAGE_MS


async def test_a_process_that_does_not_write_keeps_nothing_it_read_through(tmp_path: Path) -> None:
    async with desk(tmp_path, is_writer=False) as at:
        await at.answer(start_ms=CLOSED_MS - 50 * MINUTE_MS, end_ms=CLOSED_MS - 40 * MINUTE_MS)
        assert at.rig.store.commits == []


async def test_tails_that_lost_touch_with_the_store_are_neither_used_nor_fed(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.hold(BTC, Span(CLOSED_MS - 100 * MINUTE_MS, CLOSED_MS))
        at.rig.tail.is_current = lambda: False
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
        await at.answer(limit=10)  # a tail to begin with
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
    """Found by killing nodes: one that answered before it had read any list denied a symbol that is traded."""
    async with desk(tmp_path) as at:
        assert at.query.listed("nosuchusdt") is None
        at.rig.symbols.listings = {}
        with pytest.raises(BinanceError) as caught:
            at.query.listed("NOSUCHUSDT")
        assert caught.value.status == 503
